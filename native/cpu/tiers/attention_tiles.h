#pragma once

#include "cpu/tiers/panel_product.h"

// Attention's products on AMX tiles. Internal linkage.
//
// A step is sixteen columns: elements of the head for scores, keys for weighted values. Pages have
// them as a tile wants its second operand, eight pairs by sixteen lanes, and rows of queries or
// softmax weights are the first. The processor adds a step's columns to each sum in an order that
// depends on nothing but the column, so a row's bits do not depend on the rows beside it.
namespace quire::cpu {
namespace {

constexpr int32_t kTileHeight = 16;
constexpr int32_t kTileStepPairs = 8;
constexpr int64_t kTileStepBytes = kTileStepPairs * BFloat16Panels::kStepBytes;
constexpr int64_t kRowStepBytes = kTileStepPairs * 4;  // of two bfloat16

// What the tile instructions read and write is hidden from the compiler.
inline void attention_barrier() { __asm__ volatile("" ::: "memory"); }

// Tiles 0-2 are sums, 3-5 rows, each of up to `height` rows, and 6 a step of a panel.
void configure_attention(int32_t height) {
  struct alignas(64) {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } config;
  __builtin_memset(&config, 0, sizeof(config));
  config.palette = 1;
  for (int i = 0; i < 6; ++i) {
    config.row_bytes[i] = i < 3 ? 64 : kRowStepBytes;
    config.rows[i] = static_cast<uint8_t>(height);
  }
  config.row_bytes[6] = 64;
  config.rows[6] = kTileStepPairs;
  attention_barrier();
  _tile_loadconfig(&config);
  attention_barrier();
}

// Sums of one panel and up to 48 rows, in tiles of sixteen; row r's sixteen lie at sums + r *
// sum_stride bytes. Rows that fill up the last tile may hold anything.
struct PanelSums {
  float* sums;
  int64_t stride;
  bool from_zero;
};

void add_tile_rows(const std::byte* panel, int32_t steps, const Tokens& rows, int32_t tiles,
                   const PanelSums& to) {
  const std::byte* second = rows.data + kTileHeight * rows.stride;
  const std::byte* third = second + kTileHeight * rows.stride;
  auto* sums = reinterpret_cast<std::byte*>(to.sums);
  const int64_t next = kTileHeight * to.stride;
  attention_barrier();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  if (!to.from_zero) {
    _tile_loadd(0, sums, to.stride);
    if (tiles > 1) _tile_loadd(1, sums + next, to.stride);
    if (tiles > 2) _tile_loadd(2, sums + 2 * next, to.stride);
  }
  for (int64_t s = 0; s < steps; ++s) {
    _tile_loadd(6, panel + s * kTileStepBytes, 64);
    for (int64_t line = 0; line < kTileStepBytes; line += 64) {
      prefetch(panel + s * kTileStepBytes + kPrefetchBytes + line);
    }
    _tile_loadd(3, rows.data + s * kRowStepBytes, rows.stride);
    _tile_dpbf16ps(0, 3, 6);
    if (tiles > 1) {
      _tile_loadd(4, second + s * kRowStepBytes, rows.stride);
      _tile_dpbf16ps(1, 4, 6);
    }
    if (tiles > 2) {
      _tile_loadd(5, third + s * kRowStepBytes, rows.stride);
      _tile_dpbf16ps(2, 5, 6);
    }
  }
  _tile_stored(0, sums, to.stride);
  if (tiles > 1) _tile_stored(1, sums + next, to.stride);
  if (tiles > 2) _tile_stored(2, sums + 2 * next, to.stride);
  attention_barrier();
}

// bfloat16 pairs of panels against 2 bfloat16.
struct TilePairs : BFloat16Panels {
  static constexpr int64_t kTokenStepBytes = 4;
  static void store_token(std::byte* token, int32_t column, Floats values) {
    store_bfloat16(reinterpret_cast<uint16_t*>(token) + column, values);
  }
  static Floats rounded(Floats values) {
    alignas(32) uint16_t halves[16];
    store_bfloat16(halves, values);
    const Ints wide = _mm512_cvtepu16_epi32(*reinterpret_cast<const __m256i*>(halves));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  // Before and after products of up to `row_count` rows.
  static void begin(int32_t row_count) {
    configure_attention(row_count < kTileHeight ? row_count : kTileHeight);
  }
  static void end() { _tile_release(); }
  // sums of each row (+)= `steps` sixteens of a panel times the row.
  static void add(const std::byte* panel, int32_t steps, const Tokens& rows, int32_t row_count,
                  const PanelSums& to) {
    for (int32_t row = 0; row < row_count; row += 3 * kTileHeight) {
      const int32_t left = (row_count - row + kTileHeight - 1) / kTileHeight;
      add_tile_rows(panel, steps, {rows.data + row * rows.stride, rows.stride}, left < 3 ? left : 3,
                    {to.sums + row * to.stride / 4, to.stride, to.from_zero});
    }
  }
  // A step of each panel with zeros for all but the first `keys` of its keys: slots behind them may
  // hold anything, even NaN, which times zero is not zero.
  static void copy_first_keys(const std::byte* values, int64_t panel_bytes, int32_t panel_count,
                              int32_t keys, std::byte* copy) {
    for (int32_t i = 0; i < panel_count * kTileStepPairs; ++i) {
      const int32_t pair = i % kTileStepPairs;
      Ints step = zero_ints();
      if (2 * pair < keys) {
        step = load_ints(values + i / kTileStepPairs * panel_bytes + pair * kStepBytes);
      }
      if (2 * pair + 1 == keys) step = _mm512_and_si512(step, _mm512_set1_epi32(0xffff));
      _mm512_storeu_si512(copy + i * kStepBytes, step);
    }
  }
};

}  // namespace
}  // namespace quire::cpu
