#include "common/row_sampling.h"
#include "kernels/row_ops.h"
#include "kernels/sm90.cuh"
#include "kernels/vectors.cuh"

namespace quire {
namespace {

constexpr int kThreads = 256;

__device__ int vector_column() {
  return (static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x)) * kVector;
}

__global__ void embed_kernel(EmbedArgs args) {
  sm90::grid_wait();
  sm90::grid_trigger();
  const int token = blockIdx.x;
  const int column = vector_column();
  if (column >= args.columns) return;
  const int32_t given = args.token_ids[token];
  const int32_t id = given == kLastSampled ? args.last_tokens[args.rows[token]] : given;
  const int32_t row = id - args.first_row;
  float x[kVector] = {};
  if (row >= 0 && row < args.table_rows) {
    load_vector(args.table + int64_t{row} * args.columns + column, x);
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] *= args.scale;
  }
  store_vector(x, args.output + int64_t{token} * args.columns + column);
}

template <Gate kGate>
__global__ void gated_kernel(GatedArgs args) {
  sm90::grid_wait();
  sm90::grid_trigger();
  const int column = vector_column();
  if (column >= args.columns) return;
  const __nv_bfloat16* pair = args.input + int64_t{blockIdx.x} * 2 * args.columns + 2 * column;
  float first[kVector], second[kVector];
  load_vector(pair, first);
  load_vector(pair + kVector, second);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    first[i] = (kGate == Gate::kSilu ? silu(first[i]) : gelu(first[i])) * second[i];
  }
  store_vector(first, args.output + int64_t{blockIdx.x} * args.columns + column);
}

__global__ void add_scaled_kernel(AddScaledArgs args) {
  sm90::grid_wait();
  sm90::grid_trigger();
  const int column = vector_column();
  if (column >= args.columns) return;
  const int64_t at = int64_t{blockIdx.x} * args.columns + column;
  float x[kVector], sum[kVector];
  load_vector(args.input + at, x);
  load_vector(args.accumulator + at, sum);
#pragma unroll
  for (int i = 0; i < kVector; ++i) sum[i] += args.scale * x[i];
  store_vector(sum, args.accumulator + at);
}

__global__ void gather_kernel(GatherArgs args) {
  sm90::grid_wait();
  sm90::grid_trigger();
  const int column = vector_column();
  if (column >= args.columns) return;
  const int64_t source = int64_t{args.indices[blockIdx.x]} * args.columns + column;
  *reinterpret_cast<uint4*>(args.output + int64_t{blockIdx.x} * args.columns + column) =
      *reinterpret_cast<const uint4*>(args.input + source);
}

__global__ void scale_softcap_kernel(float* logits, int32_t columns, int64_t stride, float scale,
                                     float softcap) {
  sm90::grid_wait();
  sm90::grid_trigger();
  const int column = blockIdx.y * kThreads + threadIdx.x;
  if (column >= columns) return;
  float* place = logits + blockIdx.x * stride + column;
  const float scaled = *place * scale;
  *place = softcap > 0.0f ? softcap * tanhf(scaled / softcap) : scaled;
}

dim3 vector_grid(int32_t rows, int32_t columns) {
  return dim3(rows, (columns / kVector + kThreads - 1) / kThreads);
}

Status check_columns(const char* name, int32_t columns) {
  if (columns > 0 && columns % kVector == 0) return {};
  return {Code::kInvalidArgument, std::string(name) + ": " + std::to_string(columns) +
                                      " columns, need a multiple of " + std::to_string(kVector)};
}

}  // namespace

Status embed(const EmbedArgs& args, const LaunchOptions& options) {
  QUIRE_TRY(check_columns("embed", args.columns));
  if (args.tokens == 0) return {};
  return launch("embed", embed_kernel, vector_grid(args.tokens, args.columns), kThreads, 0, options,
                args);
}

Status gated_mul(const GatedArgs& args, const LaunchOptions& options) {
  QUIRE_TRY(check_columns("gated_mul", args.columns));
  if (args.tokens == 0) return {};
  return launch(
      "gated_mul",
      args.gate == Gate::kSilu ? gated_kernel<Gate::kSilu> : gated_kernel<Gate::kGeluTanh>,
      vector_grid(args.tokens, args.columns), kThreads, 0, options, args);
}

Status add_scaled(const AddScaledArgs& args, const LaunchOptions& options) {
  QUIRE_TRY(check_columns("add_scaled", args.columns));
  if (args.rows == 0) return {};
  return launch("add_scaled", add_scaled_kernel, vector_grid(args.rows, args.columns), kThreads, 0,
                options, args);
}

Status gather_rows(const GatherArgs& args, const LaunchOptions& options) {
  QUIRE_TRY(check_columns("gather_rows", args.columns));
  if (args.rows == 0) return {};
  return launch("gather_rows", gather_kernel, vector_grid(args.rows, args.columns), kThreads, 0,
                options, args);
}

Status scale_softcap(float* logits, int32_t rows, int32_t columns, int64_t stride, float scale,
                     float softcap, const LaunchOptions& options) {
  if (rows == 0) return {};
  return launch("scale_softcap", scale_softcap_kernel,
                dim3(rows, (columns + kThreads - 1) / kThreads), kThreads, 0, options, logits,
                columns, stride, scale, softcap);
}

}  // namespace quire
