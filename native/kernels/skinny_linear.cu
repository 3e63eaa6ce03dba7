#include "kernels/skinny_linear.h"
#include "kernels/sm90.cuh"
#include "kernels/tensor_map.h"
#include "kernels/vectors.cuh"

namespace quire {
namespace {

constexpr int kRingBytes = 208 * 1024;
constexpr int kSpan = 64;  // columns of one sub-tile
constexpr int kSpans = kMapColumns / kSpan;

struct KernelArgs {
  int32_t rows;
  int32_t chunks;  // of kMapColumns
  int32_t tiles;
  int32_t tokens;
  SkinnyEpilogue epilogue;
  float scale;
  const float* bias;
  void* output;
  int64_t output_stride;
};

// One instantiation: tiles of kRowTiles * 16 weight rows by kTokens tokens. A warp owns 16 rows and
// up to 32 tokens; the producer is one warp more.
template <int kRowTiles, int kTokens>
struct Shape {
  static constexpr int kRows = kRowTiles * kFragmentRows;
  static constexpr int kWarpTokens = kTokens < 32 ? kTokens : 32;
  static constexpr int kTokenGroups = kTokens / kWarpTokens;
  static constexpr int kConsumerWarps = kRowTiles * kTokenGroups;
  static constexpr int kThreads = (kConsumerWarps + 1) * 32;
  static constexpr int kWeightBytes = kRows * kMapColumns * 2;
  static constexpr int kInputBytes = kTokens * kMapColumns * 2;
  static constexpr int kStageBytes = kWeightBytes + kInputBytes;
  static constexpr int kStages = kRingBytes / kStageBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + 1024;
};

template <int kStages>
struct Ring {
  uint64_t full[kStages];
  uint64_t empty[kStages];
};

// The stages of one thread block in order: tiles blockIdx.x, + gridDim.x, ..; chunks of each.
struct Position {
  int32_t tile;
  int32_t chunk = 0;
  int stage = 0;
  uint32_t parity = 0;

  template <int kStages>
  __device__ void advance(int32_t chunks) {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
    if (++chunk == chunks) {
      chunk = 0;
      tile += gridDim.x;
    }
  }
};

template <class S>
__device__ void produce(const CUtensorMap* weight, const CUtensorMap* input, const KernelArgs& args,
                        unsigned char* stages, Ring<S::kStages>& ring) {
  const int first_token = blockIdx.y * (S::kInputBytes / (kMapColumns * 2));
  const auto load_weight = [&](const Position& at) {
    sm90::barrier_arrive_expect(&ring.full[at.stage], S::kStageBytes);
    sm90::tensor_copy(stages + at.stage * S::kStageBytes, weight, 0, at.tile * S::kRows,
                      at.chunk * kSpans, &ring.full[at.stage]);
  };
  const auto load_input = [&](const Position& at) {
    sm90::tensor_copy(stages + at.stage * S::kStageBytes + S::kWeightBytes, input, 0, first_token,
                      at.chunk * kSpans, &ring.full[at.stage]);
  };
  Position weights{static_cast<int32_t>(blockIdx.x)};
  for (int i = 0; i < S::kStages && weights.tile < args.tiles; ++i) {
    load_weight(weights);
    weights.advance<S::kStages>(args.chunks);
  }
  sm90::grid_wait();
  sm90::grid_trigger();
  sm90::fence_async_global();
  Position inputs{static_cast<int32_t>(blockIdx.x)};
  for (int i = 0; i < S::kStages && inputs.tile < args.tiles; ++i) {
    load_input(inputs);
    inputs.advance<S::kStages>(args.chunks);
  }
  while (weights.tile < args.tiles) {
    sm90::barrier_wait(&ring.empty[weights.stage], weights.parity ^ 1);
    load_weight(weights);
    load_input(weights);
    weights.advance<S::kStages>(args.chunks);
  }
}

// The place of 16-byte piece `piece` of line `line` in a sub-tile of 128-byte lines.
__device__ uint32_t swizzled(int line, int piece) { return line * 128 + (piece ^ (line % 8)) * 16; }

// Adds one stage to the warp's accumulators, columns in ascending order.
template <class S>
__device__ void multiply_stage(uint32_t weights, uint32_t inputs, int row_tile, int token_group,
                               float (&sums)[S::kWarpTokens / 8][4]) {
  constexpr int kTokens = S::kInputBytes / (kMapColumns * 2);
  const int lane = threadIdx.x % 32;
  const int a_line = row_tile * kFragmentRows + lane % 16;
#pragma unroll
  for (int k = 0; k < kMapColumns; k += 32) {
    const uint32_t a_tile = weights + k / kSpan * (S::kRows * 128);
    const uint32_t b_tile = inputs + k / kSpan * (kTokens * 128);
    const int piece = k % kSpan / 8;
    uint32_t a[2][4];
    sm90::load_matrices(a[0], a_tile + swizzled(a_line, piece + lane / 16));
    sm90::load_matrices(a[1], a_tile + swizzled(a_line, piece + 2 + lane / 16));
    // Eight tokens by 32 columns: the fragments of both steps.
#pragma unroll
    for (int n = 0; n < S::kWarpTokens / 8; ++n) {
      uint32_t b[4];
      const int b_line = token_group * S::kWarpTokens + n * 8 + lane % 8;
      sm90::load_matrices(b, b_tile + swizzled(b_line, piece + lane / 8));
      sm90::mma(sums[n], a[0], b[0], b[1]);
      sm90::mma(sums[n], a[1], b[2], b[3]);
    }
  }
}

__device__ float rounded(float x) { return __bfloat162float(__float2bfloat16_rn(x)); }

// Elements of a thread: weight rows g and g + 8, tokens 2t and 2t + 1 of each group of eight.
__device__ void store_pair(const KernelArgs& args, int32_t row, int32_t token, float first,
                           float second) {
  if (token >= args.tokens || row >= args.rows) return;
  const bool has_second = row + 8 < args.rows;
  if (args.bias != nullptr) {
    first += args.bias[row];
    if (has_second) second += args.bias[row + 8];
  }
  const int64_t at = token * args.output_stride + row;
  auto* output = static_cast<__nv_bfloat16*>(args.output);
  switch (args.epilogue) {
    case SkinnyEpilogue::kStore:
      output[at] = __float2bfloat16_rn(first);
      if (has_second) output[at + 8] = __float2bfloat16_rn(second);
      return;
    case SkinnyEpilogue::kStoreFloat:
      static_cast<float*>(args.output)[at] = first;
      if (has_second) static_cast<float*>(args.output)[at + 8] = second;
      return;
    case SkinnyEpilogue::kAddScaled:
      output[at] = __float2bfloat16_rn(__bfloat162float(output[at]) + args.scale * rounded(first));
      if (has_second) {
        output[at + 8] =
            __float2bfloat16_rn(__bfloat162float(output[at + 8]) + args.scale * rounded(second));
      }
      return;
    case SkinnyEpilogue::kSiluMul:
    case SkinnyEpilogue::kGeluMul: {
      const float x = rounded(first);
      const float gate = args.epilogue == SkinnyEpilogue::kSiluMul ? silu(x) : gelu(x);
      output[token * args.output_stride + row / 16 * 8 + row % 8] =
          __float2bfloat16_rn(gate * rounded(second));
      return;
    }
  }
}

template <class S>
__device__ void consume(const KernelArgs& args, const unsigned char* stages,
                        Ring<S::kStages>& ring) {
  constexpr int kTokens = S::kInputBytes / (kMapColumns * 2);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row_tile = warp / S::kTokenGroups, token_group = warp % S::kTokenGroups;
  const int32_t first_token =
      static_cast<int32_t>(blockIdx.y) * kTokens + token_group * S::kWarpTokens + lane % 4 * 2;
  sm90::grid_wait();
  Position at{static_cast<int32_t>(blockIdx.x)};
  while (at.tile < args.tiles) {
    const int32_t row = at.tile * S::kRows + row_tile * kFragmentRows + lane / 4;
    float sums[S::kWarpTokens / 8][4] = {};
    for (int32_t chunk = 0; chunk < args.chunks; ++chunk) {
      sm90::barrier_wait(&ring.full[at.stage], at.parity);
      const uint32_t stage = sm90::shared_address(stages + at.stage * S::kStageBytes);
      multiply_stage<S>(stage, stage + S::kWeightBytes, row_tile, token_group, sums);
      sm90::fence_async_shared();
      __syncwarp();
      if (lane == 0) sm90::barrier_arrive(&ring.empty[at.stage]);
      at.template advance<S::kStages>(args.chunks);
    }
#pragma unroll
    for (int n = 0; n < S::kWarpTokens / 8; ++n) {
      store_pair(args, row, first_token + n * 8, sums[n][0], sums[n][2]);
      store_pair(args, row, first_token + n * 8 + 1, sums[n][1], sums[n][3]);
    }
  }
}

template <class S>
__global__ __launch_bounds__(S::kThreads,
                             1) void skinny_kernel(const __grid_constant__ CUtensorMap weight,
                                                   const __grid_constant__ CUtensorMap input,
                                                   const KernelArgs args) {
  extern __shared__ unsigned char memory[];
  __shared__ Ring<S::kStages> ring;
  unsigned char* stages =
      reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(memory) + 1023) / 1024 * 1024);
  if (threadIdx.x == 0) {
    for (int s = 0; s < S::kStages; ++s) {
      sm90::barrier_init(&ring.full[s], 1);
      sm90::barrier_init(&ring.empty[s], S::kConsumerWarps);
    }
    sm90::fence_barrier_init();
  }
  __syncthreads();
  if (threadIdx.x < S::kConsumerWarps * 32) {
    consume<S>(args, stages, ring);
  } else if (threadIdx.x == S::kConsumerWarps * 32) {
    sm90::prefetch_tensor_map(&weight);
    sm90::prefetch_tensor_map(&input);
    produce<S>(&weight, &input, args, stages, ring);
  }
}

Status multiprocessors(int* count) {
  return from_cuda(cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, 0),
                   "skinny_linear");
}

template <int kRowTiles, int kTokens>
Status launch_shape(const SkinnyLinearArgs& args, int map, const LaunchOptions& options) {
  using S = Shape<kRowTiles, kTokens>;
  QUIRE_TRY(allow_shared_memory(skinny_kernel<S>, S::kSharedBytes, "skinny_linear"));
  int sm_count = 0;
  QUIRE_TRY(multiprocessors(&sm_count));
  const SkinnyMatrix& matrix = *args.matrix;
  const int32_t tiles = (matrix.rows + S::kRows - 1) / S::kRows;
  const KernelArgs kernel_args{matrix.rows,
                               (matrix.columns + kMapColumns - 1) / kMapColumns,
                               tiles,
                               args.tokens,
                               args.epilogue,
                               args.scale,
                               args.bias,
                               args.output,
                               args.output_stride};
  const int blocks = tiles < sm_count ? tiles : sm_count;
  return launch("skinny_linear", skinny_kernel<S>,
                dim3(blocks, (args.tokens + kTokens - 1) / kTokens), S::kThreads, S::kSharedBytes,
                options, matrix.map, args.input->maps[map], kernel_args);
}

template <int kRowTiles>
Status launch_tokens(const SkinnyLinearArgs& args, const LaunchOptions& options) {
  switch (skinny_tile_tokens(args.tokens)) {
    case 8: return launch_shape<kRowTiles, 8>(args, 0, options);
    case 16: return launch_shape<kRowTiles, 16>(args, 1, options);
    case 32: return launch_shape<kRowTiles, 32>(args, 2, options);
    default: return launch_shape<kRowTiles, 64>(args, 3, options);
  }
}

}  // namespace

Status make_skinny_matrix(const __nv_bfloat16* data, int32_t rows, int32_t columns,
                          SkinnyMatrix* matrix) {
  int sm_count = 0;
  QUIRE_TRY(multiprocessors(&sm_count));
  matrix->rows = rows;
  matrix->columns = columns;
  matrix->tile_rows = skinny_tile_rows(rows, sm_count);
  return make_tensor_map(data, rows, columns, matrix->tile_rows, &matrix->map);
}

Status make_skinny_input(const __nv_bfloat16* data, int32_t max_tokens, int32_t columns,
                         SkinnyInput* input) {
  input->columns = columns;
  for (int i = 0; i < 4; ++i) {
    QUIRE_TRY(make_tensor_map(data, max_tokens, columns, 8 << i, &input->maps[i]));
  }
  return {};
}

Status skinny_linear(const SkinnyLinearArgs& args, const LaunchOptions& options) {
  if (args.matrix->columns != args.input->columns) {
    return {Code::kInvalidArgument, "skinny_linear: input of " +
                                        std::to_string(args.input->columns) + " columns for " +
                                        std::to_string(args.matrix->columns)};
  }
  const bool is_gated =
      args.epilogue == SkinnyEpilogue::kSiluMul || args.epilogue == SkinnyEpilogue::kGeluMul;
  if (is_gated && args.matrix->rows % kFragmentRows != 0) {
    return {Code::kInvalidArgument, "skinny_linear: gated product of " +
                                        std::to_string(args.matrix->rows) +
                                        " rows, need a multiple of 16"};
  }
  if (args.tokens == 0) return {};
  return args.matrix->tile_rows == 48 ? launch_tokens<3>(args, options)
                                      : launch_tokens<2>(args, options);
}

}  // namespace quire
