#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/decode_plan.h"
#include "kernels/kv_layout.h"
#include "kernels/launch.h"

namespace quire {

struct DecodeAttentionArgs {
  const __nv_bfloat16* query =
      nullptr;  // [rows, ..]: head h of row i at i * query_stride + h * head_dim
  int64_t query_stride = 0;
  __nv_bfloat16* output = nullptr;  // [rows, head_count * head_dim]
  KvCache cache;
  const int32_t* lengths = nullptr;       // [rows]: tokens a row sees, its own included
  const int32_t* block_rows = nullptr;    // [rows]: row of the block table
  const int32_t* block_tables = nullptr;  // [.., blocks_per_row]
  const int32_t* unit_starts = nullptr;   // [rows + 1], see plan_decode
  int32_t rows = 0;
  int32_t blocks_per_row = 0;
  int32_t head_count = 0;  // a multiple of the KV heads
  int32_t window = 0;      // tokens a row sees at most; 0 for no limit
  float scale = 1.0f;
  float softcap = 0.0f;        // cap * tanh(scaled score / cap); 0 for none
  float* partials = nullptr;   // decode_partial_floats
  int32_t* tickets = nullptr;  // decode_tickets, zero before the first launch and after each
};

// Floats of workspace for `units` units in all (starts[rows] of the largest plan).
int64_t decode_partial_floats(int32_t head_count, int32_t kv_head_count, int32_t head_dim,
                              int64_t units);
int64_t decode_tickets(int32_t head_count, int32_t kv_head_count, int32_t max_rows);

// Attention of one query token per row over its paged cache.
//
// Units of 512 tokens (decode_plan.h) are spread over the machine; each starts afresh, and the last
// of a row's units to finish joins them in order (softmax.h). So a row's result depends on its own
// length and cache alone, bit for bit. Query heads of one KV head share the reading of its pages.
// Rows of length 0 are left alone.
//
// Bound by memory: keys and values are read once. Before grid_wait it reads lengths, block tables,
// unit_starts and all cached blocks but each row's last.
// Errors: kInvalidArgument for a head size other than 64, 128, 256 or heads that do not divide.
// Source: Dao et al., "Flash-Decoding for long-context inference", 2023; the fixed units: He et
// al., "Defeating Nondeterminism in LLM Inference", 2025.
Status decode_attention(const DecodeAttentionArgs& args, const LaunchOptions& options);

}  // namespace quire
