#pragma once

#include "cpu/kernels.h"
#include "cpu/tiers/simd.h"

// Quantized panels times tokens: integer sums over 32 columns, then one scale.
// Internal linkage.
//
// A panel is blocks of 32 columns; in bytes:
//   kInt4Blocks  per block: [4][16 rows][4] nibbles, columns 4j..4j+3 in the low ones and 16 more
//   in
//                the high ones, [16] f16 scale, [16] f16 offset: weight = scale * nibble + offset
//   kInt8Blocks  per block: [8][16 rows][4] bytes, columns 4j..4j+3, exclusive-or
//   kSignedWeightFlip;
//                behind all blocks, so that bytes stay aligned, per block: [16] f16 scale
//
// Integer sums are exact and the float32 chain goes block by block, so the bits of an output depend
// on nothing beside it. Activations are rounded to 8 bits of the largest magnitude in each block,
// as in llama.cpp's Q8_0 and Q8_1.
namespace quire::cpu {
namespace {

constexpr int32_t kBlockColumns = 32;

// As kPrefetchBytes of panel_product.h.
constexpr int64_t kBlockPrefetchBytes = 2048;
// Panels side by side when there is one token: more streams from memory, more chains to overlap.
constexpr int kLoneTokenPanels = 4;

// Thirty-two inputs of one token: value = scale * quants.
struct ActivationBlock {
  int8_t quants[kBlockColumns];
  float scale;
  float sum;             // scale * sum(quants)
  int32_t signed_start;  // -kSignedWeightBias * sum(quants)
};
static_assert(sizeof(ActivationBlock) == 44);

struct Int4Blocks {
  static constexpr int64_t kBytes = 320;
  static int64_t panel_bytes(int64_t block_count) { return block_count * kBytes; }
  struct Block {
    Ints quants[8];
    Floats scale, offset;
  };
  static Block load_block(const std::byte* panel, int64_t, int64_t index) {
    const std::byte* from = panel + index * kBytes;
    Block block;
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const Ints both = load_ints(from + 64 * j);
      block.quants[j] = low_nibbles(both);
      block.quants[4 + j] = high_nibbles(both);
    }
    block.scale = floats_from_halves(from + 256);
    block.offset = floats_from_halves(from + 288);
    return block;
  }
  static Ints start(const ActivationBlock&) { return zero_ints(); }
  static Ints dot(Ints sum, Ints quants, Ints activation) {
    return dot_nibbles(sum, quants, activation);
  }
  static Floats finish(const Block& block, const ActivationBlock& input, Ints dot, Floats sum) {
    const Floats scaled =
        multiply_add(floats_from(dot), multiply(block.scale, broadcast(input.scale)), sum);
    return multiply_add(block.offset, broadcast(input.sum), scaled);
  }
};

struct Int8Blocks {
  static constexpr int64_t kBytes = 512;
  static constexpr int64_t kScaleBytes = 32;
  static int64_t scales_at(int64_t block_count) { return block_count * kBytes; }
  static int64_t panel_bytes(int64_t block_count) {
    return block_count * kBytes + (block_count + 1) / 2 * 2 * kScaleBytes;
  }
  struct Block {
    Ints quants[8];
    Floats scale;
  };
  static Block load_block(const std::byte* panel, int64_t block_count, int64_t index) {
    Block block;
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) block.quants[j] = load_ints(panel + index * kBytes + 64 * j);
    block.scale = floats_from_halves(panel + scales_at(block_count) + index * kScaleBytes);
    return block;
  }
  static Ints start(const ActivationBlock& input) { return broadcast_int(&input.signed_start); }
  static Ints dot(Ints sum, Ints quants, Ints activation) {
    return dot_bytes(sum, quants, activation);
  }
  static Floats finish(const Block& block, const ActivationBlock& input, Ints dot, Floats sum) {
    return multiply_add(floats_from(dot), multiply(block.scale, broadcast(input.scale)), sum);
  }
};

// kPanels panels, panel_stride bytes apart, times kTokens tokens; finish(p, t, sum) takes the
// outputs.
template <class Format, int kPanels, int kTokens, class Finish>
void multiply_block_tile(const std::byte* panels, int64_t panel_stride, int32_t block_count,
                         const std::byte* tokens, int64_t stride, const Finish& finish) {
  Floats sums[kPanels][kTokens];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) sums[p][t] = zeros();
  }
  for (int64_t b = 0; b < block_count; ++b) {
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      const std::byte* panel = panels + p * panel_stride;
      const typename Format::Block block = Format::load_block(panel, block_count, b);
#pragma GCC unroll 8
      for (int64_t line = 0; line < Format::kBytes; line += 64) {
        prefetch(panel + b * Format::kBytes + kBlockPrefetchBytes + line);
      }
#pragma GCC unroll 8
      for (int t = 0; t < kTokens; ++t) {
        const auto& input = reinterpret_cast<const ActivationBlock*>(tokens + t * stride)[b];
        Ints even = Format::start(input), odd = zero_ints();  // two chains hide the latency
#pragma GCC unroll 4
        for (int j = 0; j < 8; j += 2) {
          even = Format::dot(even, block.quants[j], broadcast_int(input.quants + 4 * j));
          odd = Format::dot(odd, block.quants[j + 1], broadcast_int(input.quants + 4 * j + 4));
        }
        sums[p][t] = Format::finish(block, input, add_ints(even, odd), sums[p][t]);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 8
    for (int t = 0; t < kTokens; ++t) finish(p, t, sums[p][t]);
  }
}

// One panel times all tokens; finish(token, sum).
template <class Format, class Finish>
void multiply_blocks(const std::byte* panel, int32_t block_count, const std::byte* tokens,
                     int64_t stride, int32_t token_count, const Finish& finish) {
  for (int32_t token = 0; token < token_count;) {
    const std::byte* inputs = tokens + token * stride;
    const auto finish_tile = [&](int, int t, Floats sum) { finish(token + t, sum); };
    const int32_t height = token_count - token < kBlockTokens ? token_count - token : kBlockTokens;
    switch (height) {
#define QUIRE_TILE(kTokens)                                                                        \
  case kTokens:                                                                                    \
    if constexpr (kTokens <= kBlockTokens) {                                                       \
      multiply_block_tile<Format, 1, kTokens>(panel, 0, block_count, inputs, stride, finish_tile); \
    }                                                                                              \
    break;
      QUIRE_TILE(1)
      QUIRE_TILE(2)
      QUIRE_TILE(3)
      QUIRE_TILE(4)
      QUIRE_TILE(5)
      QUIRE_TILE(6)
      QUIRE_TILE(7)
      QUIRE_TILE(8)
#undef QUIRE_TILE
    }
    token += height;
  }
}

inline void quantize_block(const float* input, ActivationBlock* block) {
  const Floats low = load(input), high = load(input + 16);
  const float largest = max_of_lanes(maximum(absolute(low), absolute(high)));
  const Floats inverse = broadcast(largest > 0 ? 127.0f / largest : 0.0f);
  store_bytes(block->quants, multiply(low, inverse));
  store_bytes(block->quants + 16, multiply(high, inverse));
  int32_t sum = 0;
  for (int i = 0; i < kBlockColumns; ++i) sum += block->quants[i];
  block->scale = largest / 127.0f;
  block->sum = block->scale * static_cast<float>(sum);
  block->signed_start = -kSignedWeightBias * sum;
}

}  // namespace
}  // namespace quire::cpu
