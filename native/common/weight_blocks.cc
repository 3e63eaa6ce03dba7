#include "common/weight_blocks.h"

#include <cmath>
#include <cstring>

namespace quire {
namespace {

uint16_t u16_at(const uint8_t* bytes) { return static_cast<uint16_t>(bytes[0] | bytes[1] << 8); }

uint32_t u32_at(const uint8_t* bytes) {
  return u16_at(bytes) | static_cast<uint32_t>(u16_at(bytes + 2)) << 16;
}

float half_at(const uint8_t* bytes) { return float_from_half(u16_at(bytes)); }

// The 32 nibbles of Q4_0, Q4_1, Q5_0 and Q5_1, with the fifth bit where there is one.
int nibble(const uint8_t* nibbles, uint32_t fifth_bits, int i) {
  const int low = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;
  return low | static_cast<int>(fifth_bits >> i & 1) << 4;
}

void q4_0(const uint8_t* block, float* output) {
  const float d = half_at(block);
  for (int i = 0; i < 32; ++i) output[i] = d * static_cast<float>(nibble(block + 2, 0, i) - 8);
}

void q4_1(const uint8_t* block, float* output) {
  const float d = half_at(block), m = half_at(block + 2);
  for (int i = 0; i < 32; ++i) output[i] = d * static_cast<float>(nibble(block + 4, 0, i)) + m;
}

void q5_0(const uint8_t* block, float* output) {
  const float d = half_at(block);
  const uint32_t bits = u32_at(block + 2);
  for (int i = 0; i < 32; ++i) output[i] = d * static_cast<float>(nibble(block + 6, bits, i) - 16);
}

void q5_1(const uint8_t* block, float* output) {
  const float d = half_at(block), m = half_at(block + 2);
  const uint32_t bits = u32_at(block + 4);
  for (int i = 0; i < 32; ++i) output[i] = d * static_cast<float>(nibble(block + 8, bits, i)) + m;
}

void q8_0(const uint8_t* block, float* output) {
  const float d = half_at(block);
  for (int i = 0; i < 32; ++i) {
    output[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
}

struct ScaleAndMin {
  int scale;
  int min;
};

// Eight 6-bit scales and eight 6-bit minima in 12 bytes: the first four of each in the low six bits
// of bytes 0-7; of the rest, the low nibbles in bytes 8-11 and the top bits above the first ones.
ScaleAndMin k_scale(const uint8_t* scales, int j) {
  if (j < 4) return {scales[j] & 63, scales[j + 4] & 63};
  return {(scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4, (scales[j + 4] >> 4) | (scales[j] >> 6)
                                                                                       << 4};
}

// Q4_K, and Q5_K with `fifth_bits`: eight sub-blocks of 32.
void k_block(const uint8_t* block, const uint8_t* fifth_bits, const uint8_t* nibbles,
             float* output) {
  const float d = half_at(block), dmin = half_at(block + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleAndMin k = k_scale(block + 4, j);
    const float scale = d * static_cast<float>(k.scale);
    const float min = dmin * static_cast<float>(k.min);
    for (int i = 0; i < 32; ++i) {
      const int byte = nibbles[32 * (j / 2) + i];
      const int low = j % 2 == 0 ? byte & 15 : byte >> 4;
      const int high = fifth_bits == nullptr ? 0 : (fifth_bits[i] >> j & 1) << 4;
      output[32 * j + i] = scale * static_cast<float>(low | high) - min;
    }
  }
}

void q6_k(const uint8_t* block, float* output) {
  const uint8_t* high_pairs = block + 128;
  const uint8_t* scales = block + 192;
  const float d = half_at(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, quarter = i % 128 / 32, l = i % 32;
    const int byte = block[64 * half + 32 * (quarter & 1) + l];
    const int low = quarter < 2 ? byte & 15 : byte >> 4;
    const int high = high_pairs[32 * half + l] >> (2 * quarter) & 3;
    const float scale = d * static_cast<float>(static_cast<int8_t>(scales[i / 16]));
    output[i] = scale * static_cast<float>((low | high << 4) - 32);
  }
}

using Block = void (*)(const uint8_t* block, float* output);

template <Block block_function>
void each_block(const uint8_t* source, int64_t count, BlockShape shape, float* output) {
  for (int64_t i = 0; i < count; i += shape.elements) {
    block_function(source, output + i);
    source += shape.bytes;
  }
}

void f16(const uint8_t* source, float* output) { *output = half_at(source); }
void bf16(const uint8_t* source, float* output) { *output = float_from_bfloat16(u16_at(source)); }

void q4_k(const uint8_t* block, float* output) { k_block(block, nullptr, block + 16, output); }
void q5_k(const uint8_t* block, float* output) { k_block(block, block + 16, block + 48, output); }

}  // namespace

float float_from_half(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000) << 16;
  const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
  uint32_t word = sign;
  if (exponent == 0) {
    const float magnitude = std::ldexp(static_cast<float>(mantissa), -24);  // zero and subnormals
    std::memcpy(&word, &magnitude, sizeof(word));
    word |= sign;
  } else {
    word |= (exponent == 31 ? 255u : exponent + 112) << 23 | mantissa << 13;
  }
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

float float_from_bfloat16(uint16_t bits) {
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

uint16_t bfloat16_from_float(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof(word));
  if ((word & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>(word >> 16 | 0x40);
  return static_cast<uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

int64_t stored_bytes(WeightType type, int64_t count) { return row_bytes(type, count); }

void dequantize(WeightType type, const std::byte* source, int64_t count, float* output) {
  const BlockShape shape = block_shape(type);
  const auto* bytes = reinterpret_cast<const uint8_t*>(source);
  switch (type) {
    case WeightType::kF32: std::memcpy(output, bytes, count * sizeof(float)); break;
    case WeightType::kF16: each_block<f16>(bytes, count, shape, output); break;
    case WeightType::kBF16: each_block<bf16>(bytes, count, shape, output); break;
    case WeightType::kQ4_0: each_block<q4_0>(bytes, count, shape, output); break;
    case WeightType::kQ4_1: each_block<q4_1>(bytes, count, shape, output); break;
    case WeightType::kQ5_0: each_block<q5_0>(bytes, count, shape, output); break;
    case WeightType::kQ5_1: each_block<q5_1>(bytes, count, shape, output); break;
    case WeightType::kQ8_0: each_block<q8_0>(bytes, count, shape, output); break;
    case WeightType::kQ4_K: each_block<q4_k>(bytes, count, shape, output); break;
    case WeightType::kQ5_K: each_block<q5_k>(bytes, count, shape, output); break;
    case WeightType::kQ6_K: each_block<q6_k>(bytes, count, shape, output); break;
  }
}

}  // namespace quire
