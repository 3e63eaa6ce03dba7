#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/launch.h"

namespace quire {

struct RmsNormArgs {
  const __nv_bfloat16* input = nullptr;  // [rows, columns]
  const float* weight = nullptr;         // [columns]
  // Null, or [rows, columns] to which scale * input is added first; the sum is what is normed.
  __nv_bfloat16* residual = nullptr;
  float scale = 1.0f;
  float offset = 0.0f;  // added to each weight
  float epsilon = 0.0f;
  __nv_bfloat16* output = nullptr;  // [rows, columns]; may be the input
  int32_t rows = 0;
  int32_t columns = 0;  // a multiple of 8, at most 16384
};

// output = x / rms(x) * (weight + offset), in float32, rounded once; x is the input, or the
// residual after the addition (rounded to bfloat16, as it is kept). All pointers are 16-byte
// aligned.
//
// One block per row and a sum whose order depends on `columns` alone. Bound by memory.
// Before grid_wait it reads nothing. kInvalidArgument for columns out of range.
Status rms_norm(const RmsNormArgs& args, const LaunchOptions& options);

}  // namespace quire
