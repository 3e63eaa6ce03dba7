#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/launch.h"

// Row operations of one pass over their data, 16 bytes a thread: bound by memory, and each element
// by itself. Pointers are 16-byte aligned, columns multiples of 8 unless said. Before grid_wait
// they read nothing. kInvalidArgument for columns out of range.
namespace quire {

struct EmbedArgs {
  const __nv_bfloat16* table = nullptr;  // [vocabulary rows of this rank, columns]
  int32_t first_row = 0;                 // token id of the table's first row
  int32_t table_rows = 0;
  float scale = 1.0f;
  const int32_t* token_ids = nullptr;    // [tokens], or kLastSampled
  const int32_t* rows = nullptr;         // [tokens]: whose last token, where the id is kLastSampled
  const int32_t* last_tokens = nullptr;  // [rows]
  __nv_bfloat16* output = nullptr;       // [tokens, columns]
  int32_t tokens = 0;
  int32_t columns = 0;
};

// output[t] = scale * table[token t - first_row]; zero for tokens of other ranks.
Status embed(const EmbedArgs& args, const LaunchOptions& options);

enum class Gate : uint8_t { kSilu, kGeluTanh };

struct GatedArgs {
  const __nv_bfloat16* input = nullptr;  // [tokens, 2 * columns], 8 gate columns, 8 up columns, ...
  __nv_bfloat16* output = nullptr;       // [tokens, columns]
  Gate gate = Gate::kSilu;
  int32_t tokens = 0;
  int32_t columns = 0;
};

// output = gate(first) * second, from the interleaved order in which skinny_linear packs the two
// matrices.
Status gated_mul(const GatedArgs& args, const LaunchOptions& options);

struct AddScaledArgs {
  const __nv_bfloat16* input = nullptr;  // [rows, columns]
  float scale = 1.0f;
  __nv_bfloat16* accumulator = nullptr;  // [rows, columns]
  int32_t rows = 0;
  int32_t columns = 0;
};

// accumulator += scale * input
Status add_scaled(const AddScaledArgs& args, const LaunchOptions& options);

struct GatherArgs {
  const __nv_bfloat16* input = nullptr;  // [.., columns]
  const int32_t* indices = nullptr;      // [rows] of the input
  __nv_bfloat16* output = nullptr;       // [rows, columns]
  int32_t rows = 0;
  int32_t columns = 0;
};

// output[i] = input[indices[i]]
Status gather_rows(const GatherArgs& args, const LaunchOptions& options);

// logits[rows, stride] = softcap(logits * scale), in place, float32; softcap 0 for none. Of each
// row the first `columns` entries (any number) count.
Status scale_softcap(float* logits, int32_t rows, int32_t columns, int64_t stride, float scale,
                     float softcap, const LaunchOptions& options);

}  // namespace quire
