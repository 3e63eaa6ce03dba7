#include "kernels/tensor_map.h"

#include <cuda_runtime.h>

#include <string>

#include "common/cuda_status.h"

namespace quire {
namespace {

constexpr int kSpan = 64;

}  // namespace

Status make_tensor_map(const __nv_bfloat16* data, int32_t rows, int32_t columns, int32_t box_rows,
                       CUtensorMap* map) {
  if (columns <= 0 || columns % kSpan != 0 || box_rows > 256) {
    return {Code::kInvalidArgument, "tensor map of " + std::to_string(columns) + " columns and " +
                                        std::to_string(box_rows) +
                                        " rows a box, need a multiple of 64 and at most 256"};
  }
  void* symbol = nullptr;
  cudaDriverEntryPointQueryResult found;
  QUIRE_TRY(from_cuda(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &symbol, 12000,
                                                       cudaEnableDefault, &found),
                      "cuTensorMapEncodeTiled"));
  if (symbol == nullptr) return {Code::kUnavailable, "the driver has no cuTensorMapEncodeTiled"};
  const auto encode = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(symbol);
  const cuuint64_t sizes[3] = {kSpan, static_cast<cuuint64_t>(rows),
                               static_cast<cuuint64_t>(columns / kSpan)};
  const cuuint64_t strides[2] = {static_cast<cuuint64_t>(columns) * sizeof(__nv_bfloat16),
                                 kSpan * sizeof(__nv_bfloat16)};
  const cuuint32_t box[3] = {kSpan, static_cast<cuuint32_t>(box_rows), kMapColumns / kSpan};
  const cuuint32_t steps[3] = {1, 1, 1};
  const CUresult result =
      encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, const_cast<__nv_bfloat16*>(data), sizes,
             strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return {};
  return {Code::kDeviceFailed, "cuTensorMapEncodeTiled: error " + std::to_string(result)};
}

}  // namespace quire
