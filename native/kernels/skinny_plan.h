#pragma once

#include <cstdint>

// How skinny_linear cuts a product: what a thread block computes at once, decided by the matrix for
// the rows and by the step for the tokens. Neither changes the order in which an output is summed.
namespace quire {

constexpr int kFragmentRows = 16;

// Weight rows of one tile, 32 or 48: the choice that leaves the fewest idle multiprocessors.
constexpr int32_t skinny_tile_rows(int32_t rows, int32_t sm_count) {
  const auto cost = [=](int32_t tile_rows) {
    const int32_t tiles = (rows + tile_rows - 1) / tile_rows;
    return (tiles + sm_count - 1) / sm_count * tile_rows;
  };
  return cost(48) < cost(32) ? 48 : 32;
}

// Tokens of one tile: 8, 16, 32 or 64. More than 64 tokens read the weights again.
constexpr int32_t skinny_tile_tokens(int32_t tokens) {
  return tokens <= 8 ? 8 : tokens <= 16 ? 16 : tokens <= 32 ? 32 : 64;
}

// Where row `row` of the gate matrix (is_up: of the up matrix) lies in the matrix that is
// multiplied with them both: eight of one, eight of the other, so that a pair meets in one thread.
constexpr int32_t gated_row(int32_t row, bool is_up) {
  return row / 8 * 16 + (is_up ? 8 : 0) + row % 8;
}

}  // namespace quire
