#pragma once

#include <cuda.h>
#include <cuda_bf16.h>

#include <cstdint>

#include "common/status.h"

namespace quire {

// Columns that one copy brings of every row, in boxes of 64 (the span of the hardware's swizzle).
constexpr int kMapColumns = 256;

// Describes a row-major bfloat16 matrix [rows, columns] to the copy engine, for boxes of `box_rows`
// rows x 256 columns that land as four sub-tiles [box_rows, 64] in the 128-byte swizzle. Parts of a
// box outside the matrix land as zeros. `data` is 16-byte aligned.
//
// kInvalidArgument for columns that are no multiple of 64 or more than 256 box rows; kUnavailable
// without a driver.
Status make_tensor_map(const __nv_bfloat16* data, int32_t rows, int32_t columns, int32_t box_rows,
                       CUtensorMap* map);

}  // namespace quire
