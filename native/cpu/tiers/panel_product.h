#pragma once

#include "cpu/kernels.h"
#include "cpu/tiers/simd.h"

// The one multiplication of the SIMD tiers: panels of sixteen weight rows times tokens, where a
// lane is a row and a step is a pair of columns. Linear layers, attention scores (a panel is
// sixteen keys) and weighted values (a panel is sixteen elements of the head) all go through it.
// Internal linkage.
//
// Every output is one chain of additions in the order of the columns, whatever else is in the tile,
// so its bits depend on neither the number of tokens nor the tile's shape.
namespace quire::cpu {
namespace {

// Weights stream from memory, and the processor's own prefetching stops where a tile of many tokens
// takes long over each line: lines this far ahead are asked for.
constexpr int64_t kPrefetchBytes = 4096;

// A format says what a step of a panel and of a token look like. place(lane, column) is where an
// element of a panel's step is, column 0 or 1.

// [2][16] float against 2 floats.
struct Float32Pairs {
  static constexpr int64_t kStepBytes = 128;
  static constexpr int64_t kTokenStepBytes = 8;
  using Element = float;
  static int32_t place(int32_t lane, int32_t column) { return column * 16 + lane; }
  static void store_elements(float* to, Floats values) { store(to, values); }
  struct Step {
    Floats first, second;
  };
  static Step load_step(const std::byte* panel) { return {load(panel), load(panel + 64)}; }
  static Floats multiply_step(const Step& step, const std::byte* token, Floats sum) {
    const auto* pair = reinterpret_cast<const float*>(token);
    return multiply_add(step.second, broadcast(pair[1]),
                        multiply_add(step.first, broadcast(pair[0]), sum));
  }
  static void store_token(std::byte* token, int32_t column, Floats values) {
    store(reinterpret_cast<float*>(token) + column, values);
  }
  static Floats rounded(Floats values) { return values; }
};

// Panels of [16][2] bfloat16.
struct BFloat16Panels {
  static constexpr int64_t kStepBytes = 64;
  using Element = uint16_t;
  static int32_t place(int32_t lane, int32_t column) { return lane * 2 + column; }
  static void store_elements(uint16_t* to, Floats values) { store_bfloat16(to, values); }
};

// They against 2 floats.
struct WidenedPairs : BFloat16Panels {
  static constexpr int64_t kTokenStepBytes = 8;
  using Step = Float32Pairs::Step;
  static Step load_step(const std::byte* panel) {
    Step step;
    load_pairs(panel, &step.first, &step.second);
    return step;
  }
  static Floats multiply_step(const Step& step, const std::byte* token, Floats sum) {
    return Float32Pairs::multiply_step(step, token, sum);
  }
  static void store_token(std::byte* token, int32_t column, Floats values) {
    Float32Pairs::store_token(token, column, values);
  }
  static Floats rounded(Floats values) { return values; }
};

#if defined(__AVX512BF16__)
// They against 2 bfloat16.
struct DotPairs : BFloat16Panels {
  static constexpr int64_t kTokenStepBytes = 4;
  using Step = __m512bh;
  static Step load_step(const std::byte* panel) {
    return reinterpret_cast<Step>(_mm512_loadu_si512(panel));
  }
  static Floats multiply_step(const Step& step, const std::byte* token, Floats sum) {
    return _mm512_dpbf16_ps(sum, step, reinterpret_cast<Step>(broadcast_int(token)));
  }
  static void store_token(std::byte* token, int32_t column, Floats values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(reinterpret_cast<uint16_t*>(token) + column),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
  }
  static Floats rounded(Floats values) {
    const __m256i halves = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
};
#endif

// How this tier multiplies bfloat16 where it does so without tiles.
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
using BFloat16Pairs = DotPairs;
#else
using BFloat16Pairs = WidenedPairs;
#endif

// A column count as steps, and the columns that a token's format is padded to.
inline int32_t step_count_of(int32_t columns) { return (columns + 1) / 2; }
inline int32_t padded_columns(int32_t columns) { return (columns + 15) / 16 * 16; }

struct Tokens {
  const std::byte* data;
  int64_t stride;  // bytes
};

// kPanels x kTokens outputs. start(p, t) is what a sum begins with, finish(p, t, sum) takes it.
template <class Format, int kPanels, int kTokens, class PanelAt, class Start, class Finish>
void multiply_tile(const PanelAt& panel_at, int32_t panel, int32_t steps, const Tokens& tokens,
                   int32_t token, const Start& start, const Finish& finish) {
  const std::byte* panels[kPanels];
  for (int p = 0; p < kPanels; ++p) panels[p] = panel_at(panel + p);
  const std::byte* inputs = tokens.data + token * tokens.stride;
  const int64_t stride = tokens.stride;
  Floats sums[kPanels][kTokens];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) sums[p][t] = start(panel + p, token + t);
  }
  for (int64_t s = 0; s < steps; ++s) {
    typename Format::Step loaded[kPanels];
#pragma GCC unroll 4
    for (int p = 0; p < kPanels; ++p) {
      const std::byte* step = panels[p] + s * Format::kStepBytes;
      loaded[p] = Format::load_step(step);
      for (int64_t line = 0; line < Format::kStepBytes; line += 64) {
        prefetch(step + kPrefetchBytes + line);
      }
    }
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) {
      const std::byte* input = inputs + t * stride + s * Format::kTokenStepBytes;
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        sums[p][t] = Format::multiply_step(loaded[p], input, sums[p][t]);
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 12
    for (int t = 0; t < kTokens; ++t) finish(panel + p, token + t, sums[p][t]);
  }
}

// kPanels panels times all tokens, in tiles of at most kMaxTokens of nearly equal height.
template <class Format, int kPanels, int kMaxTokens, class PanelAt, class Start, class Finish>
void multiply_panels(const PanelAt& panel_at, int32_t panel, int32_t steps, const Tokens& tokens,
                     int32_t token_count, const Start& start, const Finish& finish) {
  const int32_t tiles = (token_count + kMaxTokens - 1) / kMaxTokens;
  for (int32_t tile = 0, token = 0; tile < tiles; ++tile) {
    const int32_t height = (token_count - token + tiles - tile - 1) / (tiles - tile);
    switch (height) {
#define QUIRE_TILE(kTokens)                                                                 \
  case kTokens:                                                                             \
    if constexpr (kTokens <= kMaxTokens) {                                                  \
      multiply_tile<Format, kPanels, kTokens>(panel_at, panel, steps, tokens, token, start, \
                                              finish);                                      \
    }                                                                                       \
    break;
      QUIRE_TILE(1)
      QUIRE_TILE(2)
      QUIRE_TILE(3)
      QUIRE_TILE(4)
      QUIRE_TILE(5)
      QUIRE_TILE(6)
      QUIRE_TILE(7)
      QUIRE_TILE(8)
      QUIRE_TILE(9)
      QUIRE_TILE(10)
      QUIRE_TILE(11)
      QUIRE_TILE(12)
#undef QUIRE_TILE
    }
    token += height;
  }
}

// Panels [begin, end) times all tokens. panel_at(p) is where panel p lies.
template <class Format, class PanelAt, class Start, class Finish>
void multiply(const PanelAt& panel_at, int32_t begin, int32_t end, int32_t steps,
              const Tokens& tokens, int32_t token_count, const Start& start, const Finish& finish) {
  int32_t panel = begin;
  if (token_count <= kFourPanelTokens) {
    for (; panel + 4 <= end; panel += 4) {
      multiply_panels<Format, 4, kFourPanelTokens>(panel_at, panel, steps, tokens, token_count,
                                                   start, finish);
    }
  }
  if (token_count <= kTwoPanelTokens) {
    for (; panel + 2 <= end; panel += 2) {
      multiply_panels<Format, 2, kTwoPanelTokens>(panel_at, panel, steps, tokens, token_count,
                                                  start, finish);
    }
  }
  for (; panel + kManyTokensPanels <= end; panel += kManyTokensPanels) {
    multiply_panels<Format, kManyTokensPanels, kManyTokens>(panel_at, panel, steps, tokens,
                                                            token_count, start, finish);
  }
  for (; panel < end; ++panel) {
    multiply_panels<Format, 1, kManyTokens>(panel_at, panel, steps, tokens, token_count, start,
                                            finish);
  }
}

// A row of floats as one token of a format, padded with zeros.
template <class Format>
void prepare_token(const float* input, int32_t columns, std::byte* token) {
  int32_t column = 0;
  for (; column + 16 <= columns; column += 16) {
    Format::store_token(token, column, load(input + column));
  }
  if (column < columns) {
    Format::store_token(token, column, load_first(input + column, columns - column, 0.0f));
  }
}

}  // namespace
}  // namespace quire::cpu
