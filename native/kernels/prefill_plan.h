#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/kv_layout.h"

// How prefill attention cuts a step's chunks into the query tiles of its thread blocks.
namespace quire {

// Query rows of one tile: tokens x query heads of one KV head.
constexpr int kTileRows = 128;

struct PrefillChunk {
  int32_t block_row;  // row of the block table
  int32_t token;      // the chunk's first token among the step's
  int32_t start;      // its position
  int32_t count;
};

// A chunk, or a part of one that fits a tile.
using PrefillTile = PrefillChunk;

// Blocks of keys that a tile's queries see.
inline int32_t visible_blocks(const PrefillTile& tile, int32_t window) {
  const int32_t first = window > 0 ? std::max(0, tile.start + 1 - window) : 0;
  return (tile.start + tile.count - 1) / kBlockTokens - first / kBlockTokens + 1;
}

// Tiles of all chunks, those with most work first, so that the last to finish are short.
// `group` is the number of query heads per KV head, at most kTileRows.
inline void plan_prefill(const std::vector<PrefillChunk>& chunks, int32_t group, int32_t window,
                         std::vector<PrefillTile>* tiles) {
  const int32_t tile_tokens = kTileRows / group;
  tiles->clear();
  for (const PrefillChunk& chunk : chunks) {
    for (int32_t done = 0; done < chunk.count; done += tile_tokens) {
      tiles->push_back({chunk.block_row, chunk.token + done, chunk.start + done,
                        std::min(tile_tokens, chunk.count - done)});
    }
  }
  std::stable_sort(tiles->begin(), tiles->end(), [=](const PrefillTile& a, const PrefillTile& b) {
    return visible_blocks(a, window) > visible_blocks(b, window);
  });
}

}  // namespace quire
