#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/kv_layout.h"
#include "kernels/launch.h"
#include "kernels/prefill_plan.h"

namespace quire {

struct PrefillAttentionArgs {
  // [tokens, ..]: head h of token t at t * query_stride + h * head_dim.
  const __nv_bfloat16* query = nullptr;
  int64_t query_stride = 0;
  __nv_bfloat16* output = nullptr;  // [tokens, head_count * head_dim]
  KvCache cache;
  const PrefillTile* tiles = nullptr;     // [tile_count] on the device, see plan_prefill
  const int32_t* block_tables = nullptr;  // [.., blocks_per_row]
  int32_t tile_count = 0;
  int32_t blocks_per_row = 0;
  int32_t head_count = 0;  // a multiple of the KV heads, at most 128 times as many
  int32_t window = 0;      // tokens a query sees at most, itself included; 0 for no limit
  float scale = 1.0f;      // more than 0
  float softcap = 0.0f;    // cap * tanh(scaled score / cap); 0 for none
};

// Causal attention of chunks of prompt tokens over their paged cache, which holds the chunks' own
// keys and values already.
//
// A thread block takes up to 128 query rows (tokens x heads of one KV head) and walks the blocks of
// keys from the first visible one; softmax is online. Blocks are anchored at token 0 and one that a
// query does not see changes nothing, so a token's result does not depend on how the prompt was cut
// into chunks nor on what else is in the step, bit for bit.
//
// Bound by the matrix units. Before grid_wait it reads nothing.
// Errors: kInvalidArgument for a head size other than 64, 128, 256 or heads that do not divide.
// Source: Shah et al., "FlashAttention-3: Fast and Accurate Attention with Asynchrony and
// Low-precision", 2024, section 3.2.
Status prefill_attention(const PrefillAttentionArgs& args, const LaunchOptions& options);

}  // namespace quire
