#include "kernels/rope_store.h"
#include "kernels/sm90.cuh"
#include "kernels/vectors.cuh"

namespace quire {
namespace {

constexpr int kWarps = 4;

// A lane holds dimensions 2 * (lane + 32 j) and the next one: neighbours move as one word.
template <int kHeadDim>
struct Head {
  static constexpr int kPairs = kHeadDim / 64;
  float x[kPairs][2];
};

template <int kHeadDim>
__device__ Head<kHeadDim> load_head(const __nv_bfloat16* source, int lane) {
  Head<kHeadDim> head;
#pragma unroll
  for (int j = 0; j < head.kPairs; ++j) {
    const float2 pair =
        __bfloat1622float2(reinterpret_cast<const __nv_bfloat162*>(source)[lane + 32 * j]);
    head.x[j][0] = pair.x;
    head.x[j][1] = pair.y;
  }
  return head;
}

template <int kHeadDim>
__device__ void norm_head(Head<kHeadDim>& head, const float* weight, float offset, float epsilon,
                          int lane) {
  float squares = 0.0f;
#pragma unroll
  for (int j = 0; j < head.kPairs; ++j) {
    squares += head.x[j][0] * head.x[j][0] + head.x[j][1] * head.x[j][1];
  }
  const float factor = 1.0f / sqrtf(warp_sum(squares) / kHeadDim + epsilon);
#pragma unroll
  for (int j = 0; j < head.kPairs; ++j) {
    const int dimension = 2 * (lane + 32 * j);
    head.x[j][0] *= factor * (weight[dimension] + offset);
    head.x[j][1] *= factor * (weight[dimension + 1] + offset);
  }
}

// Pairs (2i, 2i + 1): both lie in one lane.
template <int kHeadDim>
__device__ void turn_adjacent(Head<kHeadDim>& head, const float* cosines, int pairs, int lane) {
#pragma unroll
  for (int j = 0; j < head.kPairs; ++j) {
    const int i = lane + 32 * j;
    if (i >= pairs) continue;
    const float cosine = cosines[i], sine = cosines[pairs + i];
    const float a = head.x[j][0], b = head.x[j][1];
    head.x[j][0] = a * cosine - b * sine;
    head.x[j][1] = b * cosine + a * sine;
  }
}

// Pairs (i, i + pairs): the partner comes through shared memory, as `pairs` may be any number.
template <int kHeadDim>
__device__ void turn_halves(Head<kHeadDim>& head, const float* cosines, int pairs, int lane,
                            float* line) {
#pragma unroll
  for (int j = 0; j < head.kPairs; ++j) {
    line[2 * (lane + 32 * j)] = head.x[j][0];
    line[2 * (lane + 32 * j) + 1] = head.x[j][1];
  }
  __syncwarp();
#pragma unroll
  for (int j = 0; j < head.kPairs; ++j) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int dimension = 2 * (lane + 32 * j) + half;
      if (dimension >= 2 * pairs) continue;
      const bool first = dimension < pairs;
      const int i = first ? dimension : dimension - pairs;
      const float partner = line[first ? dimension + pairs : i];
      const float turned = first ? -partner : partner;
      head.x[j][half] = head.x[j][half] * cosines[i] + turned * cosines[pairs + i];
    }
  }
}

template <int kHeadDim>
__device__ void store_page(const Head<kHeadDim>& head, __nv_bfloat16* page, int slot, int lane) {
#pragma unroll
  for (int j = 0; j < head.kPairs; ++j) {
    const int element = page_element(slot, 2 * (lane + 32 * j));
    *reinterpret_cast<uint32_t*>(page + element) = sm90::pack_bf16(head.x[j][0], head.x[j][1]);
  }
}

template <int kHeadDim>
__global__ __launch_bounds__(kWarps * 32) void rope_store_kernel(RopeStoreKvArgs args) {
  __shared__ float lines[kWarps][kHeadDim];
  sm90::grid_wait();
  sm90::grid_trigger();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int head_index = blockIdx.y * kWarps + warp;
  const int kv_heads = args.cache.kv_head_count;
  const int heads = args.head_count + 2 * kv_heads;
  if (head_index >= heads) return;
  const int token = blockIdx.x;
  const int position = args.positions[token];
  if (position < 0) return;
  __nv_bfloat16* source = args.qkv + (int64_t{token} * heads + head_index) * kHeadDim;
  Head<kHeadDim> head = load_head<kHeadDim>(source, lane);
  const bool is_query = head_index < args.head_count;
  const bool is_value = head_index >= args.head_count + kv_heads;
  if (!is_value) {
    const float* norm = is_query ? args.query_norm : args.key_norm;
    if (norm != nullptr) norm_head(head, norm, args.norm_offset, args.norm_epsilon, lane);
    const float* cosines = args.rope_table + int64_t{position} * 2 * args.rope_pairs;
    if (args.adjacent) {
      turn_adjacent(head, cosines, args.rope_pairs, lane);
    } else {
      turn_halves(head, cosines, args.rope_pairs, lane, lines[warp]);
    }
  }
  if (is_query) {
#pragma unroll
    for (int j = 0; j < head.kPairs; ++j) {
      reinterpret_cast<uint32_t*>(source)[lane + 32 * j] =
          sm90::pack_bf16(head.x[j][0], head.x[j][1]);
    }
    return;
  }
  const int32_t block = args.block_tables[int64_t{args.block_rows[token]} * args.blocks_per_row +
                                          position / kBlockTokens];
  const int kv_head = head_index - args.head_count - (is_value ? kv_heads : 0);
  store_page(head,
             static_cast<__nv_bfloat16*>(args.cache.data) +
                 page_begin(args.cache, block, is_value, kv_head),
             position % kBlockTokens, lane);
}

template <int kHeadDim>
Status launch_rope(const RopeStoreKvArgs& args, const LaunchOptions& options) {
  const int heads = args.head_count + 2 * args.cache.kv_head_count;
  return launch("rope_store_kv", rope_store_kernel<kHeadDim>,
                dim3(args.tokens, (heads + kWarps - 1) / kWarps), kWarps * 32, 0, options, args);
}

}  // namespace

Status rope_store_kv(const RopeStoreKvArgs& args, const LaunchOptions& options) {
  if (args.rope_pairs < 0 || args.rope_pairs > args.cache.head_dim / 2) {
    return {Code::kInvalidArgument, "rope_store_kv: " + std::to_string(args.rope_pairs) +
                                        " pairs in a head of " +
                                        std::to_string(args.cache.head_dim)};
  }
  if (args.tokens == 0) return {};
  switch (args.cache.head_dim) {
    case 64: return launch_rope<64>(args, options);
    case 128: return launch_rope<128>(args, options);
    case 256: return launch_rope<256>(args, options);
  }
  return {
      Code::kInvalidArgument,
      "rope_store_kv: head size " + std::to_string(args.cache.head_dim) + ", need 64, 128 or 256"};
}

}  // namespace quire
