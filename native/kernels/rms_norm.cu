#include "kernels/rms_norm.h"
#include "kernels/sm90.cuh"
#include "kernels/vectors.cuh"

namespace quire {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kMaxVectors = 4;  // per thread
constexpr int kMaxColumns = kThreads * kVector * kMaxVectors;

__device__ float block_sum(float value, float* warp_sums) {
  const float sum = warp_sum(value);
  if (threadIdx.x % 32 == 0) warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  float total = 0.0f;
#pragma unroll
  for (int warp = 0; warp < kWarps; ++warp) total += warp_sums[warp];
  return total;
}

// x, after the residual took its addition; what is kept is rounded, so x is.
__device__ void load_input(const RmsNormArgs& args, int64_t at, float (&x)[kVector]) {
  load_vector(args.input + at, x);
  if (args.residual == nullptr) return;
  float sum[kVector];
  load_vector(args.residual + at, sum);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    sum[i] += args.scale * x[i];
    x[i] = __bfloat162float(__float2bfloat16_rn(sum[i]));
  }
  store_vector(sum, args.residual + at);
}

// The row stays in registers between the sum and the scaling.
__global__ __launch_bounds__(kThreads) void rms_norm_kernel(RmsNormArgs args) {
  __shared__ float warp_sums[kWarps];
  sm90::grid_wait();
  sm90::grid_trigger();
  const int64_t row = int64_t{blockIdx.x} * args.columns;
  float x[kMaxVectors][kVector];
  float squares = 0.0f;
#pragma unroll
  for (int v = 0; v < kMaxVectors; ++v) {
    const int column = (v * kThreads + static_cast<int>(threadIdx.x)) * kVector;
    if (column >= args.columns) continue;
    load_input(args, row + column, x[v]);
#pragma unroll
    for (int i = 0; i < kVector; ++i) squares += x[v][i] * x[v][i];
  }
  const float mean = block_sum(squares, warp_sums) / static_cast<float>(args.columns);
  const float factor = 1.0f / sqrtf(mean + args.epsilon);
#pragma unroll
  for (int v = 0; v < kMaxVectors; ++v) {
    const int column = (v * kThreads + static_cast<int>(threadIdx.x)) * kVector;
    if (column >= args.columns) continue;
    const float4 low = *reinterpret_cast<const float4*>(args.weight + column);
    const float4 high = *reinterpret_cast<const float4*>(args.weight + column + 4);
    const float weight[kVector] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[v][i] *= factor * (weight[i] + args.offset);
    store_vector(x[v], args.output + row + column);
  }
}

}  // namespace

Status rms_norm(const RmsNormArgs& args, const LaunchOptions& options) {
  if (args.columns <= 0 || args.columns % kVector != 0 || args.columns > kMaxColumns) {
    return {Code::kInvalidArgument, "rms_norm: " + std::to_string(args.columns) +
                                        " columns, need a multiple of 8 up to " +
                                        std::to_string(kMaxColumns)};
  }
  if (args.rows == 0) return {};  // an empty grid is a launch error
  return launch("rms_norm", rms_norm_kernel, dim3(args.rows), kThreads, 0, options, args);
}

}  // namespace quire
