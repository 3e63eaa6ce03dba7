#pragma once

#include "cpu/tiers/packing.h"

// Linear layers of bfloat16 weights on AMX tiles. Internal linkage.
//
// A step is 32 columns: a tile of weights is sixteen pairs of columns of a panel, just as
// kBf16Panels has them, a tile of activations sixteen tokens of 32 bfloat16. Columns are padded
// with zeros to whole steps. The processor adds a step's columns to each sum in an order that
// depends on nothing but the column, so neither do the bits of an output.
namespace quire::cpu {
namespace {

constexpr int32_t kTileTokens = 16;
constexpr int32_t kTilePanels = 4;
constexpr int64_t kTileBytes = 1024;
constexpr int64_t kTokenTileBytes = 64;

// What the tile instructions read and write is hidden from the compiler.
inline void memory_barrier() { __asm__ volatile("" ::: "memory"); }

struct alignas(64) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

// Sums are tiles 0-3, activations 4 and 5, weights 6 and 7. With two tiles of tokens, 0 and 1 are
// the sums of the first one and 2 and 3 of the second; with one, all sums are of it.
void configure_tiles(int32_t token_count) {
  const int32_t first = token_count < kTileTokens ? token_count : kTileTokens;
  const int32_t second = token_count > kTileTokens ? token_count - kTileTokens : first;
  const int32_t rows[8] = {first, first, second, second, first, second, 16, 16};
  TileConfig config;
  __builtin_memset(&config, 0, sizeof(config));
  config.palette = 1;
  for (int i = 0; i < 8; ++i) {
    config.row_bytes[i] = 64;
    config.rows[i] = static_cast<uint8_t>(rows[i]);
  }
  memory_barrier();
  _tile_loadconfig(&config);
  memory_barrier();
}

inline void prefetch_tile(const std::byte* tile) {
#pragma GCC unroll 16
  for (int64_t line = 0; line < kTileBytes; line += 64) prefetch(tile + kPrefetchBytes + line);
}

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

inline void store_sums(float (*sums)[256]) {
  memory_barrier();
  _tile_stored(0, sums[0], 64);
  _tile_stored(1, sums[1], 64);
  _tile_stored(2, sums[2], 64);
  _tile_stored(3, sums[3], 64);
  memory_barrier();
}

// Four panels times up to sixteen tokens; sums[p] is [token][16 rows] of panel p.
void multiply_four_panels(const std::byte* const* panels, int32_t steps, const Tokens& tokens,
                          float (*sums)[256]) {
  zero_sums();
  for (int64_t s = 0; s < steps; ++s) {
    _tile_loadd(4, tokens.data + s * kTokenTileBytes, tokens.stride);
    _tile_loadd(6, panels[0] + s * kTileBytes, 64);
    _tile_loadd(7, panels[1] + s * kTileBytes, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(6, panels[2] + s * kTileBytes, 64);
    _tile_loadd(7, panels[3] + s * kTileBytes, 64);
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 7);
#pragma GCC unroll 4
    for (int p = 0; p < kTilePanels; ++p) prefetch_tile(panels[p] + s * kTileBytes);
  }
  store_sums(sums);
}

// Two panels times seventeen to thirty-two tokens; sums[2 * i + p] is the i-th sixteen of panel p.
void multiply_two_panels(const std::byte* const* panels, int32_t steps, const Tokens& tokens,
                         float (*sums)[256]) {
  zero_sums();
  const std::byte* second = tokens.data + kTileTokens * tokens.stride;
  for (int64_t s = 0; s < steps; ++s) {
    _tile_loadd(4, tokens.data + s * kTokenTileBytes, tokens.stride);
    _tile_loadd(6, panels[0] + s * kTileBytes, 64);
    _tile_loadd(7, panels[1] + s * kTileBytes, 64);
    _tile_loadd(5, second + s * kTokenTileBytes, tokens.stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  store_sums(sums);
}

// Activations of one token: bfloat16, padded with zeros to whole steps.
struct Bf16Activations {
  static int64_t bytes(int32_t columns) {
    return (columns + kBf16ColumnMultiple - 1) / kBf16ColumnMultiple * kTokenTileBytes;
  }
  static void prepare(const float* input, int32_t columns, std::byte* activation) {
    auto* to = reinterpret_cast<uint16_t*>(activation);
    const auto padded = static_cast<int32_t>(bytes(columns) / 2);
    for (int32_t column = 0; column < padded; column += 16) {
      const int32_t left = columns - column;
      store_bfloat16(to + column, left >= 16 ? load(input + column)
                                  : left > 0 ? load_first(input + column, left, 0.0f)
                                             : zeros());
    }
  }
};

// Up to 32 tokens from `token` on, times four panels, of which the first `count` are wanted.
template <class Outputs>
void multiply_tiles(const std::byte* const* panels, int32_t panel, int32_t count, int32_t steps,
                    const Tokens& tokens, int32_t token, int32_t token_count,
                    const Outputs& outputs) {
  alignas(64) float sums[kTilePanels][256];
  const Tokens inputs{tokens.data + token * tokens.stride, tokens.stride};
  if (token_count <= kTileTokens) {
    multiply_four_panels(panels, steps, inputs, sums);
    for (int32_t i = 0; i < count * token_count; ++i) {
      const int32_t p = i / token_count, t = i % token_count;
      outputs.put(panel + p, token + t, load(&sums[p][t * 16]));
    }
    return;
  }
  for (int32_t p = 0; p < count; p += 2) {
    multiply_two_panels(panels + p, steps, inputs, sums);
    const int32_t wanted = count - p < 2 ? 1 : 2;
    for (int32_t i = 0; i < wanted * token_count; ++i) {
      const int32_t q = i / token_count, t = i % token_count;
      outputs.put(panel + p + q, token + t,
                  load(&sums[t / kTileTokens * 2 + q][t % kTileTokens * 16]));
    }
  }
}

// Many tokens: what is read over and over has to stay in the caches. Columns are cut into slabs
// whose activations fit the second-level cache beside the weights that stream through it, and a
// slab into blocks whose weights of two panels fit the first-level cache. Sums wait in memory
// between blocks, which changes no bit of them.
constexpr int64_t kSlabBytes = 1408 * 1024;
constexpr LinearTile kLinearTile = {4 << 20, 4 << 20};  // slabs and blocks do the rest
constexpr int32_t kBlockSteps = 8;
constexpr int32_t kGroupTokens = 2 * kTileTokens;
constexpr int32_t kRunTokens = 256;

// Two panels times 32 tokens and at most kBlockSteps steps, added to sums unless they are the first
// ones. Of the weights at `ahead` and those a panel on, `lines` a step are asked for.
struct PairBlock {
  const std::byte* panels[2];
  int32_t steps;
  bool first;
  int64_t panel_bytes;
  int32_t lines;
};

inline void multiply_pair_block(const PairBlock& block, const Tokens& tokens,
                                const std::byte* ahead, float (*sums)[256]) {
  if (block.first) {
    zero_sums();
  } else {
    memory_barrier();
    _tile_loadd(0, sums[0], 64);
    _tile_loadd(1, sums[1], 64);
    _tile_loadd(2, sums[2], 64);
    _tile_loadd(3, sums[3], 64);
  }
  const std::byte* second = tokens.data + kTileTokens * tokens.stride;
  for (int64_t s = 0; s < block.steps; ++s) {
    _tile_loadd(4, tokens.data + s * kTokenTileBytes, tokens.stride);
    _tile_loadd(6, block.panels[0] + s * kTileBytes, 64);
    _tile_loadd(7, block.panels[1] + s * kTileBytes, 64);
    _tile_loadd(5, second + s * kTokenTileBytes, tokens.stride);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    for (int32_t line = 0; line < block.lines; ++line, ahead += 64) {
      prefetch(ahead);
      prefetch(ahead + block.panel_bytes);
    }
  }
  store_sums(sums);
}

// Steps [begin, end) of two panels times whole groups of tokens, at most kRunTokens of them.
template <class Outputs>
void multiply_run(const std::byte* const* panels, int64_t panel_bytes, int32_t panel, int32_t count,
                  int32_t begin, int32_t end, const Tokens& tokens, int32_t token,
                  int32_t token_count, const Outputs& outputs) {
  alignas(64) float sums[kRunTokens / kGroupTokens][4][256];
  const auto sum_at = [&](int32_t t, int32_t p) {
    return &sums[t / kGroupTokens][t / kTileTokens % 2 * 2 + p][t % kTileTokens * 16];
  };
  if (begin > 0) {
    for (int32_t i = 0; i < count * token_count; ++i) {
      const int32_t p = i / token_count, t = i % token_count;
      store(sum_at(t, p), outputs.get(panel + p, token + t));
    }
  }
  const int32_t groups = token_count / kGroupTokens;
  const auto lines = static_cast<int32_t>((kTileBytes / 64 + groups - 1) / groups);
  for (int32_t step = begin; step < end; step += kBlockSteps) {
    const int32_t steps = end - step < kBlockSteps ? end - step : kBlockSteps;
    const int64_t at = step * kTileBytes;
    const std::byte* ahead = step + steps < end ? panels[0] + at + kBlockSteps * kTileBytes
                                                : panels[0] + 2 * panel_bytes + begin * kTileBytes;
    const PairBlock block{{panels[0] + at, panels[1] + at}, steps, step == 0, panel_bytes, lines};
    for (int32_t g = 0; g < groups; ++g) {
      const std::byte* from = tokens.data + (token + g * kGroupTokens) * tokens.stride;
      multiply_pair_block(block, {from + step * kTokenTileBytes, tokens.stride},
                          ahead + g * kBlockSteps * lines * 64, sums[g]);
    }
  }
  for (int32_t p = 0; p < count; ++p) {
    for (int32_t t = 0; t < token_count; ++t) {
      outputs.put(panel + p, token + t, load(sum_at(t, p)));
    }
  }
}

// Whole groups of tokens times the panels [panel_begin, panel_end).
template <class Outputs>
void multiply_groups(const Matrix& matrix, const Tokens& tokens, int32_t token_count,
                     int32_t panel_begin, int32_t panel_end, const Outputs& outputs) {
  const int64_t bytes = panel_bytes(matrix.packing, matrix.columns);
  const auto steps = static_cast<int32_t>(bytes / kTileBytes);
  const auto fitting = static_cast<int32_t>(kSlabBytes / (token_count * kTokenTileBytes));
  const int32_t slabs = (steps + fitting - 1) / fitting;
  const int32_t slab = (steps + slabs - 1) / slabs;
  configure_tiles(kGroupTokens);
  for (int32_t begin = 0; begin < steps; begin += slab) {
    const int32_t end = begin + slab < steps ? begin + slab : steps;
    for (int32_t panel = panel_begin; panel < panel_end; panel += 2) {
      const int32_t count = panel_end - panel < 2 ? 1 : 2;
      const std::byte* first = matrix.data + panel * bytes;
      const std::byte* panels[2] = {first, first + (count - 1) * bytes};
      for (int32_t token = 0; token < token_count; token += kRunTokens) {
        const int32_t height = token_count - token < kRunTokens ? token_count - token : kRunTokens;
        multiply_run(panels, bytes, panel, count, begin, end, tokens, token, height, outputs);
      }
    }
  }
  _tile_release();
}

// The panels times tokens that are no whole group.
template <class Outputs>
void multiply_rest(const Matrix& matrix, const Tokens& tokens, int32_t token, int32_t token_count,
                   int32_t panel_begin, int32_t panel_end, const Outputs& outputs) {
  const int64_t bytes = panel_bytes(matrix.packing, matrix.columns);
  const auto steps = static_cast<int32_t>(bytes / kTileBytes);
  configure_tiles(token_count);
  for (int32_t panel = panel_begin; panel < panel_end; panel += kTilePanels) {
    const int32_t count = panel_end - panel < kTilePanels ? panel_end - panel : kTilePanels;
    const std::byte* panels[kTilePanels];  // the last one stands in for those that are not there
    for (int32_t p = 0; p < kTilePanels; ++p) {
      panels[p] = matrix.data + (panel + (p < count ? p : count - 1)) * bytes;
    }
    multiply_tiles(panels, panel, count, steps, tokens, token, token_count, outputs);
  }
  _tile_release();
}

template <class Outputs>
void linear_bf16(const Matrix& matrix, const Tokens& tokens, int32_t token_count,
                 int32_t panel_begin, int32_t panel_end, const Outputs& outputs) {
  const int32_t grouped = token_count / kGroupTokens * kGroupTokens;
  if (grouped > 0) {
    multiply_groups(matrix, tokens, grouped, panel_begin, panel_end, outputs);
  }
  if (grouped < token_count) {
    multiply_rest(matrix, tokens, grouped, token_count - grouped, panel_begin, panel_end, outputs);
  }
}

}  // namespace
}  // namespace quire::cpu
