#pragma once

#include "common/weight_blocks.h"
#include "cpu/tiers/block_product.h"
#include "cpu/tiers/panel_product.h"
#include "cpu/tiers/tables.h"

// How the SIMD tiers lay weights out, and read them back. Internal linkage.
namespace quire::cpu {
namespace {

// Columns of kBf16Panels are padded to a multiple of this: a pair, or an AMX tile.
#if defined(__AMX_BF16__)
constexpr int32_t kBf16ColumnMultiple = 32;
#else
constexpr int32_t kBf16ColumnMultiple = 2;
#endif

constexpr int32_t kMaxBlockElements = 256;  // whole blocks of every type

int32_t packing_for(WeightType type, Compute compute, int32_t, int32_t) {
  if (compute == Compute::kFloat32) return kFloat32Panels;
  switch (type) {
    case WeightType::kQ4_0:
    case WeightType::kQ4_1: return kInt4Blocks;
    case WeightType::kQ5_0:
    case WeightType::kQ8_0: return kInt8Blocks;
    default: return kBf16Panels;
  }
}

// Bytes of one panel; panels follow each other without gaps.
int64_t panel_bytes(int32_t packing, int32_t columns) {
  switch (packing) {
    case kInt4Blocks: return Int4Blocks::panel_bytes(columns / kBlockColumns);
    case kInt8Blocks: return Int8Blocks::panel_bytes(columns / kBlockColumns);
    case kBf16Panels: {
      const int64_t multiples = (columns + kBf16ColumnMultiple - 1) / kBf16ColumnMultiple;
      return multiples * (kBf16ColumnMultiple / 2) * BFloat16Pairs::kStepBytes;
    }
    default: return step_count_of(columns) * Float32Pairs::kStepBytes;
  }
}

int64_t packed_bytes(int32_t packing, int32_t rows, int32_t columns) {
  return (rows + kPanelRows - 1) / kPanelRows * panel_bytes(packing, columns);
}

// Sixteen values of one row, from a column that is a multiple of sixteen, to their places.
void put_floats(int32_t packing, const float* values, int32_t column, int32_t count, int32_t row,
                std::byte* panel) {
  if (packing == kBf16Panels) {
    uint16_t halves[16];
    store_bfloat16(halves, load(values));
    auto* to = reinterpret_cast<uint16_t*>(panel) + column * kPanelRows + row * 2;
    for (int32_t i = 0; i < count; ++i) to[i / 2 * 2 * kPanelRows + i % 2] = halves[i];
  } else {
    auto* to = reinterpret_cast<float*>(panel) + column * kPanelRows + row;
    for (int32_t i = 0; i < count; ++i) to[i * kPanelRows] = values[i];
  }
}

// A row widened to numbers; `source` null writes zeros. An odd last column gets a zero beside it.
void pack_float_row(int32_t packing, WeightType type, const std::byte* source, int32_t columns,
                    int32_t row, std::byte* panel) {
  const int32_t padded = step_count_of(columns) * 2;
  float values[kMaxBlockElements];
  for (int32_t column = 0; column < padded; column += kMaxBlockElements) {
    const int32_t count =
        columns - column < kMaxBlockElements ? columns - column : kMaxBlockElements;
    __builtin_memset(values, 0, sizeof(values));
    if (source != nullptr) {
      dequantize(type, source + stored_bytes(type, column), count, values);
    }
    const int32_t end = padded - column < kMaxBlockElements ? padded - column : kMaxBlockElements;
    for (int32_t i = 0; i < end; i += 16) {
      put_floats(packing, values + i, column + i, end - i < 16 ? end - i : 16, row, panel);
    }
  }
}

// The nibbles of a row's block, its scale, and the offset of Q4_0's nibbles, -8 scales: exact.
void pack_int4_row(WeightType type, const std::byte* source, int32_t columns, int32_t row,
                   std::byte* panel) {
  const bool has_offset = type == WeightType::kQ4_1;
  for (int32_t b = 0; b < columns / kBlockColumns; ++b) {
    const std::byte* from = source + b * (has_offset ? 20 : 18);
    std::byte* block = panel + b * Int4Blocks::kBytes;
    __builtin_memcpy(block + 256 + 2 * row, from, 2);
    if (has_offset) {
      __builtin_memcpy(block + 288 + 2 * row, from + 2, 2);
    } else {
      uint16_t scale;
      __builtin_memcpy(&scale, from, 2);
      const __m128 offset = _mm_mul_ss(_mm_cvtph_ps(_mm_cvtsi32_si128(scale)), _mm_set_ss(-8.0f));
      const int half = _mm_cvtsi128_si32(_mm_cvtps_ph(offset, _MM_FROUND_TO_NEAREST_INT));
      __builtin_memcpy(block + 288 + 2 * row, &half, 2);
    }
    const std::byte* nibbles = from + (has_offset ? 4 : 2);
    for (int j = 0; j < 4; ++j) {
      __builtin_memcpy(block + 64 * j + 4 * row, nibbles + 4 * j, 4);
    }
  }
}

// The signed bytes of a row's Q8_0 or Q5_0 block.
void signed_bytes(WeightType type, const std::byte* block, int8_t* output) {
  if (type == WeightType::kQ8_0) {
    __builtin_memcpy(output, block + 2, kBlockColumns);
    return;
  }
  uint32_t fifth_bits;
  __builtin_memcpy(&fifth_bits, block + 2, sizeof(fifth_bits));
  for (int i = 0; i < kBlockColumns; ++i) {
    const int byte = static_cast<int>(block[6 + i % 16]);
    const int low = i < 16 ? byte & 15 : byte >> 4;
    output[i] = static_cast<int8_t>((low | static_cast<int>(fifth_bits >> i & 1) << 4) - 16);
  }
}

void pack_int8_row(WeightType type, const std::byte* source, int32_t columns, int32_t row,
                   std::byte* panel) {
  const int64_t source_bytes = type == WeightType::kQ8_0 ? 34 : 22;
  const int32_t block_count = columns / kBlockColumns;
  std::byte* scales = panel + Int8Blocks::scales_at(block_count) + 2 * row;
  for (int32_t b = 0; b < block_count; ++b) {
    const std::byte* from = source + b * source_bytes;
    std::byte* block = panel + b * Int8Blocks::kBytes;
    __builtin_memcpy(scales + b * Int8Blocks::kScaleBytes, from, 2);
    int8_t bytes[kBlockColumns];
    signed_bytes(type, from, bytes);
    for (int i = 0; i < kBlockColumns; ++i) {
      block[i / 4 * 64 + 4 * row + i % 4] =
          static_cast<std::byte>(static_cast<uint8_t>(bytes[i]) ^ kSignedWeightFlip);
    }
  }
}

void pack(int32_t packing, WeightType type, const std::byte* source, int32_t row_begin,
          int32_t row_count, int32_t columns, std::byte* packed) {
  const int64_t source_row = stored_bytes(type, columns);
  const int64_t bytes = panel_bytes(packing, columns);
  const int32_t end = (row_count + kPanelRows - 1) / kPanelRows * kPanelRows;
  for (int32_t i = 0; i < end; ++i) {
    const int32_t row = i % kPanelRows;
    std::byte* panel = packed + (row_begin + i) / kPanelRows * bytes;
    if (row == 0) __builtin_memset(panel, 0, bytes);  // rows and bytes that nothing else fills
    if (i >= row_count) continue;
    const std::byte* from = source + i * source_row;
    if (packing == kInt4Blocks) {
      pack_int4_row(type, from, columns, row, panel);
    } else if (packing == kInt8Blocks) {
      pack_int8_row(type, from, columns, row, panel);
    } else {
      pack_float_row(packing, type, from, columns, row, panel);
    }
  }
}

float half_at(const std::byte* from) {
  uint16_t bits;
  __builtin_memcpy(&bits, from, sizeof(bits));
  return float_from_half(bits);
}

void unpack_row(const Matrix& matrix, int32_t row, float* output) {
  const int32_t r = row % kPanelRows;
  const std::byte* panel =
      matrix.data + row / kPanelRows * panel_bytes(matrix.packing, matrix.columns);
  for (int32_t k = 0; k < matrix.columns; ++k) {
    const int32_t i = k % kBlockColumns, b = k / kBlockColumns;
    switch (matrix.packing) {
      case kInt4Blocks: {
        const std::byte* block = panel + b * Int4Blocks::kBytes;
        const int both = static_cast<int>(block[i % 16 / 4 * 64 + 4 * r + i % 4]);
        const int nibble = i < 16 ? both & 15 : both >> 4;
        output[k] = half_at(block + 256 + 2 * r) * static_cast<float>(nibble) +
                    half_at(block + 288 + 2 * r);
        break;
      }
      case kInt8Blocks: {
        const std::byte* block = panel + b * Int8Blocks::kBytes;
        const auto byte = static_cast<uint8_t>(block[i / 4 * 64 + 4 * r + i % 4]);
        const std::byte* scales = panel + Int8Blocks::scales_at(matrix.columns / kBlockColumns);
        output[k] = half_at(scales + b * Int8Blocks::kScaleBytes + 2 * r) *
                    static_cast<float>(static_cast<int8_t>(byte ^ kSignedWeightFlip));
        break;
      }
      case kBf16Panels: {
        const auto* pairs = reinterpret_cast<const uint16_t*>(panel);
        output[k] = float_from_bfloat16(pairs[k / 2 * 2 * kPanelRows + 2 * r + k % 2]);
        break;
      }
      default:
        output[k] = reinterpret_cast<const float*>(panel)[static_cast<int64_t>(k) * kPanelRows + r];
    }
  }
}

}  // namespace
}  // namespace quire::cpu
