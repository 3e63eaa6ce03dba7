#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/kv_layout.h"
#include "kernels/launch.h"

namespace quire {

struct RopeStoreKvArgs {
  // [tokens, query heads + 2 * KV heads, head_dim]: queries, keys, values; queries are rewritten.
  __nv_bfloat16* qkv = nullptr;
  int32_t tokens = 0;
  int32_t head_count = 0;
  KvCache cache;
  // [positions, 2 * rope_pairs]: cosines, then sines, of one position; a magnitude is in them.
  const float* rope_table = nullptr;
  int32_t rope_pairs = 0;  // at most head_dim / 2; dimensions from 2 * rope_pairs on stay
  bool adjacent = false;   // pairs are (2i, 2i + 1), else (i, i + rope_pairs)
  const int32_t* positions = nullptr;     // [tokens], or -1 to store nothing
  const int32_t* block_rows = nullptr;    // [tokens]: row of the block table
  const int32_t* block_tables = nullptr;  // [rows, blocks_per_row]
  int32_t blocks_per_row = 0;
  // Null, or [head_dim]: each head is normed (x / rms(x) * (weight + offset)) before it is turned.
  const float* query_norm = nullptr;
  const float* key_norm = nullptr;
  float norm_offset = 0.0f;
  float norm_epsilon = 0.0f;
};

// Norms (where there are weights) and turns queries in place and keys on their way into the cache,
// and stores the values. Float32 inside, rounded once.
//
// One warp per (token, head). Bound by memory. Before grid_wait it reads nothing.
// kInvalidArgument for a head_dim other than 64, 128, 256 or too many pairs.
Status rope_store_kv(const RopeStoreKvArgs& args, const LaunchOptions& options);

}  // namespace quire
