#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/launch.h"
#include "kernels/skinny_plan.h"

namespace quire {

// A weight matrix [rows, columns], bfloat16, row-major, as skinny_linear reads it.
struct SkinnyMatrix {
  CUtensorMap map;
  int32_t rows = 0;
  int32_t columns = 0;  // a multiple of 64
  int32_t tile_rows = 0;
};

Status make_skinny_matrix(const __nv_bfloat16* data, int32_t rows, int32_t columns,
                          SkinnyMatrix* matrix);

// Activations [max_tokens, columns], bfloat16, row-major: one map per tile of tokens.
struct SkinnyInput {
  CUtensorMap maps[4];  // tiles of 8, 16, 32, 64 tokens
  int32_t columns = 0;
};

Status make_skinny_input(const __nv_bfloat16* data, int32_t max_tokens, int32_t columns,
                         SkinnyInput* input);

// Rounding the product before it is used makes kAddScaled the bits of kStore followed by
// add_scaled, and the gated ones those of kStore followed by gated_mul.
enum class SkinnyEpilogue : int32_t {
  kStore,       // bfloat16 [tokens, rows]
  kStoreFloat,  // float32 [tokens, rows]
  kAddScaled,   // bfloat16 [tokens, rows] += scale * product, the product rounded first
  kSiluMul,     // bfloat16 [tokens, rows / 2], rows interleaved as by gated_row, products rounded
                // first
  kGeluMul,
};

struct SkinnyLinearArgs {
  const SkinnyMatrix* matrix = nullptr;
  const SkinnyInput* input = nullptr;
  int32_t tokens = 0;
  SkinnyEpilogue epilogue = SkinnyEpilogue::kStore;
  float scale = 1.0f;
  const float* bias = nullptr;  // [rows] or null
  void* output = nullptr;
  int64_t output_stride = 0;  // elements between tokens
};

// output = epilogue(input * matrix^T + bias).
//
// One thread block owns whole output rows; the copy engine streams weights and activations through
// a ring of 168 to 200 KB. Every output is one float32 chain over columns in ascending steps of 16,
// so it depends on its own token and row alone: the same bits for any number of tokens.
//
// Bound by memory to about 64 tokens. Before grid_wait it reads the weights, which never change.
// kInvalidArgument when columns differ or a gated product has rows that are no multiple of 16.
Status skinny_linear(const SkinnyLinearArgs& args, const LaunchOptions& options);

}  // namespace quire
