#include "kernels/prefill_attention.h"
#include "kernels/ring.cuh"
#include "kernels/sm90.cuh"
#include "kernels/warpgroup.cuh"

namespace quire {
namespace {

constexpr int kGroups = 2;  // warpgroups, 64 query rows each
constexpr int kGroupRows = kTileRows / kGroups;
constexpr int kGroupThreads = 128;
constexpr int kConsumers = kGroups * kGroupThreads;
constexpr int kThreads = kConsumers + kGroupThreads;  // a warpgroup of which one warp produces
// Registers of a thread after the consumers took what the producers do not need.
constexpr int kConsumerRegisters = 240;
constexpr int kProducerRegisters = 24;
constexpr int kSubTile = kBlockTokens * kPageSpan;  // elements of 64 lines of 128 bytes
constexpr float kLog2E = 1.4426950408889634f;

template <int kHeadDim>
struct Shared {
  static constexpr int kPage = page_elements(kHeadDim);
  static constexpr int kStages = kHeadDim == 256 ? 4 : 6;
  // Query rows of a group lie as the tokens of a page do.
  alignas(1024) __nv_bfloat16 query[kGroups][kPage];
  alignas(1024) __nv_bfloat16 ring[kStages][kPage];
  uint64_t full[kStages];
  uint64_t empty[kStages];
};

struct Blocks {
  int32_t first;
  int32_t end;
};

__device__ Blocks blocks_of(const PrefillTile& tile, int32_t window) {
  const int32_t hidden = window > 0 ? max(0, tile.start + 1 - window) : 0;
  return {hidden / kBlockTokens, (tile.start + tile.count - 1) / kBlockTokens + 1};
}

template <int kHeadDim>
__device__ void produce(const PrefillAttentionArgs& args, Shared<kHeadDim>& shared,
                        const PrefillTile& tile, int kv_head, int lane) {
  using S = Shared<kHeadDim>;
  RingCursor<S::kStages> cursor;
  cursor.parity = 1;
  const auto* data = static_cast<const __nv_bfloat16*>(args.cache.data);
  const int32_t* table = args.block_tables + int64_t{tile.block_row} * args.blocks_per_row;
  const Blocks blocks = blocks_of(tile, args.window);
  int32_t ids = 0;
  for (int32_t b = blocks.first; b < blocks.end; ++b) {
    const int turn = (b - blocks.first) % 32;
    if (turn == 0) ids = b + lane < blocks.end ? table[b + lane] : 0;
    const int32_t block = __shfl_sync(sm90::kAllLanes, ids, turn);
    for (int is_value = 0; is_value < 2; ++is_value) {
      if (lane == 0) {
        sm90::barrier_wait(&shared.empty[cursor.stage], cursor.parity);
        sm90::barrier_arrive_expect(&shared.full[cursor.stage], S::kPage * 2);
        sm90::bulk_copy(shared.ring[cursor.stage],
                        data + page_begin(args.cache, block, is_value, kv_head), S::kPage * 2,
                        &shared.full[cursor.stage]);
      }
      cursor.advance();
    }
  }
}

// Query rows of one warpgroup: row r of the tile is token r / group, head r % group of the KV head.
template <int kHeadDim>
__device__ void load_query(const PrefillAttentionArgs& args, __nv_bfloat16* query,
                           const PrefillTile& tile, int kv_head, int heads, int group) {
  for (int i = threadIdx.x % kGroupThreads; i < kGroupRows * kHeadDim / 8; i += kGroupThreads) {
    const int row = i / (kHeadDim / 8), dimension = i % (kHeadDim / 8) * 8;
    const int token = (group * kGroupRows + row) / heads;
    const int head = kv_head * heads + (group * kGroupRows + row) % heads;
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (token < tile.count) {
      bits = *reinterpret_cast<const uint4*>(args.query + (tile.token + token) * args.query_stride +
                                             head * kHeadDim + dimension);
    }
    *reinterpret_cast<uint4*>(query + page_element(row, dimension)) = bits;
  }
}

// A thread's part of the softmax of its two rows, g and g + 8 of its warp.
template <int kHeadDim>
struct Rows {
  float values[kHeadDim / kPageSpan][32];
  float maxima[2];
  float sums[2];
};

// Starts the scores of one block; they are there after the next warpgroup_wait.
template <int kHeadDim>
__device__ void start_scores(const __nv_bfloat16* query, const __nv_bfloat16* keys,
                             float (&scores)[32]) {
  const uint32_t a = sm90::shared_address(query), b = sm90::shared_address(keys);
  sm90::keep_in_place(scores);
  sm90::warpgroup_fence();
#pragma unroll
  for (int k = 0; k < kHeadDim; k += 16) {
    const uint32_t offset = (k / kPageSpan * kSubTile + k % kPageSpan) * 2;
    sm90::warpgroup_mma(scores, sm90::tile_descriptor(a + offset),
                        sm90::tile_descriptor(b + offset), k > 0);
  }
  sm90::warpgroup_commit();
}

// Adds the weighted values of one block; returns when everything that was started is done.
template <int kHeadDim>
__device__ void add_values(const __nv_bfloat16* page, const float (&weights)[32],
                           Rows<kHeadDim>& rows) {
  const uint32_t b = sm90::shared_address(page);
  uint32_t a[4][4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a[k][i] = sm90::pack_bf16(weights[8 * k + 2 * i], weights[8 * k + 2 * i + 1]);
    }
  }
#pragma unroll
  for (int d = 0; d < kHeadDim / kPageSpan; ++d) sm90::keep_in_place(rows.values[d]);
  sm90::warpgroup_fence();
#pragma unroll
  for (int k = 0; k < 4; ++k) {
#pragma unroll
    for (int d = 0; d < kHeadDim / kPageSpan; ++d) {
      sm90::warpgroup_mma(rows.values[d], a[k],
                          sm90::tile_descriptor(b + (d * kSubTile + k * 16 * kPageSpan) * 2));
    }
  }
  sm90::warpgroup_commit();
  sm90::warpgroup_wait<0>();
#pragma unroll
  for (int d = 0; d < kHeadDim / kPageSpan; ++d) sm90::keep_in_place(rows.values[d]);
}

__device__ float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Caps the scores and hides what a query does not see (-infinity). A score times the result is in
// units of log 2.
__device__ float cap_and_mask(const PrefillAttentionArgs& args, int32_t first_key,
                              const int32_t (&positions)[2], bool masks, float (&scores)[32]) {
  float unit = args.scale * kLog2E;
  if (args.softcap > 0.0f) {
    unit = args.softcap * kLog2E;
#pragma unroll
    for (int i = 0; i < 32; ++i) scores[i] = tanhf(scores[i] * args.scale / args.softcap);
  }
  if (!masks) return unit;
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    const int32_t key = first_key + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2;
    const int32_t position = positions[i % 4 / 2];
    const bool visible = key <= position && (args.window == 0 || key > position - args.window);
    if (!visible) scores[i] = -INFINITY;
  }
  return unit;
}

// Turns scores into weights under the new maxima and brings the rows under them.
template <int kHeadDim>
__device__ void weigh(float (&scores)[32], float unit, Rows<kHeadDim>& rows) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float maximum = -INFINITY;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
      maximum = fmaxf(maximum, fmaxf(scores[4 * n + 2 * half], scores[4 * n + 2 * half + 1]));
    }
    maximum = fmaxf(maximum, __shfl_xor_sync(sm90::kAllLanes, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(sm90::kAllLanes, maximum, 2));
    maximum = fmaxf(maximum * unit, rows.maxima[half]);
    const float base = maximum == -INFINITY ? 0.0f : maximum;
    const float factor = exp2_approximate(rows.maxima[half] - base);
    rows.maxima[half] = maximum;
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int i = 4 * n + 2 * half; i < 4 * n + 2 * half + 2; ++i) {
        scores[i] = exp2_approximate(fmaf(scores[i], unit, -base));
        sum += scores[i];
      }
    }
    rows.sums[half] = rows.sums[half] * factor + sum;
#pragma unroll
    for (int d = 0; d < kHeadDim / kPageSpan; ++d) {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        rows.values[d][4 * n + 2 * half] *= factor;
        rows.values[d][4 * n + 2 * half + 1] *= factor;
      }
    }
  }
}

template <int kHeadDim>
__device__ void store_rows(const PrefillAttentionArgs& args, const PrefillTile& tile,
                           const Rows<kHeadDim>& rows, int first_row, int kv_head, int heads) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float sum = rows.sums[half];
    sum += __shfl_xor_sync(sm90::kAllLanes, sum, 1);
    sum += __shfl_xor_sync(sm90::kAllLanes, sum, 2);
    const int row = first_row + 8 * half;
    const int token = row / heads;
    if (token >= tile.count) continue;
    const int head = kv_head * heads + row % heads;
    __nv_bfloat16* output =
        args.output + ((int64_t{tile.token} + token) * args.head_count + head) * kHeadDim;
    const float factor = 1.0f / sum;
#pragma unroll
    for (int d = 0; d < kHeadDim / kPageSpan; ++d) {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
        *reinterpret_cast<uint32_t*>(output + d * kPageSpan + n * 8 + threadIdx.x % 4 * 2) =
            sm90::pack_bf16(rows.values[d][4 * n + 2 * half] * factor,
                            rows.values[d][4 * n + 2 * half + 1] * factor);
      }
    }
  }
}

// Softmax of one block while the matrix units compute the scores of the next: blocks lie in the
// ring as keys, values, keys, values.
template <int kHeadDim>
__device__ void walk_blocks(const PrefillAttentionArgs& args, Shared<kHeadDim>& shared, int group,
                            Blocks blocks, const int32_t (&positions)[2], int32_t lowest,
                            Rows<kHeadDim>& rows) {
  const auto release = [&](int stage) {
    if (threadIdx.x % 32 == 0) sm90::barrier_arrive(&shared.empty[stage]);
  };
  RingCursor<Shared<kHeadDim>::kStages> cursor;
  float scores[32], next_scores[32];
  sm90::barrier_wait(&shared.full[cursor.stage], cursor.parity);
  start_scores<kHeadDim>(shared.query[group], shared.ring[cursor.stage], scores);
  sm90::warpgroup_wait<0>();
  sm90::keep_in_place(scores);
  release(cursor.stage);
  for (int32_t b = blocks.first; b < blocks.end; ++b) {
    cursor.advance();
    const auto values = cursor;
    const bool has_next = b + 1 < blocks.end;
    if (has_next) {
      cursor.advance();
      sm90::barrier_wait(&shared.full[cursor.stage], cursor.parity);
      start_scores<kHeadDim>(shared.query[group], shared.ring[cursor.stage], next_scores);
    }
    const bool masks = args.window > 0 || (b + 1) * kBlockTokens > lowest + 1;
    const float unit = cap_and_mask(args, b * kBlockTokens, positions, masks, scores);
    weigh(scores, unit, rows);
    sm90::barrier_wait(&shared.full[values.stage], values.parity);
    add_values(shared.ring[values.stage], scores, rows);
    release(values.stage);
    if (!has_next) return;
    release(cursor.stage);
    sm90::keep_in_place(next_scores);
#pragma unroll
    for (int i = 0; i < 32; ++i) scores[i] = next_scores[i];
  }
}

template <int kHeadDim>
__device__ void consume(const PrefillAttentionArgs& args, Shared<kHeadDim>& shared,
                        const PrefillTile& tile, int kv_head) {
  const int group = threadIdx.x / kGroupThreads, lane = threadIdx.x % 32;
  const int heads = args.head_count / args.cache.kv_head_count;
  load_query<kHeadDim>(args, shared.query[group], tile, kv_head, heads, group);
  sm90::fence_async_shared();
  sm90::named_barrier(1 + group, kGroupThreads);
  const int first_row = group * kGroupRows + threadIdx.x % kGroupThreads / 32 * 16 + lane / 4;
  const int32_t positions[2] = {tile.start + first_row / heads,
                                tile.start + (first_row + 8) / heads};
  const int32_t lowest = tile.start + group * kGroupRows / heads;
  Rows<kHeadDim> rows{};
  rows.maxima[0] = rows.maxima[1] = -INFINITY;
  walk_blocks(args, shared, group, blocks_of(tile, args.window), positions, lowest, rows);
  store_rows(args, tile, rows, first_row, kv_head, heads);
}

template <int kHeadDim>
__global__ __launch_bounds__(kThreads, 1) void prefill_kernel(PrefillAttentionArgs args) {
  extern __shared__ unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<kHeadDim>*>((reinterpret_cast<uintptr_t>(memory) + 1023) /
                                                      1024 * 1024);
  if (threadIdx.x == 0) {
    for (int s = 0; s < Shared<kHeadDim>::kStages; ++s) {
      sm90::barrier_init(&shared.full[s], 1);
      sm90::barrier_init(&shared.empty[s], kConsumers / 32);
    }
    sm90::fence_barrier_init();
  }
  __syncthreads();
  sm90::grid_wait();
  sm90::grid_trigger();
  const PrefillTile tile = args.tiles[blockIdx.y];
  const int kv_head = blockIdx.x;
  if (threadIdx.x < kConsumers) {
    sm90::take_registers<kConsumerRegisters>();
    consume(args, shared, tile, kv_head);
  } else {
    sm90::give_registers<kProducerRegisters>();
    if (threadIdx.x >= kConsumers + 32) return;
    sm90::fence_async_global();
    produce(args, shared, tile, kv_head, threadIdx.x % 32);
  }
}

template <int kHeadDim>
Status launch_prefill(const PrefillAttentionArgs& args, const LaunchOptions& options) {
  constexpr int kBytes = sizeof(Shared<kHeadDim>) + 1024;
  static_assert(kBytes <= 227 * 1024);
  QUIRE_TRY(allow_shared_memory(prefill_kernel<kHeadDim>, kBytes, "prefill_attention"));
  return launch("prefill_attention", prefill_kernel<kHeadDim>,
                dim3(args.cache.kv_head_count, args.tile_count), kThreads, kBytes, options, args);
}

}  // namespace

Status prefill_attention(const PrefillAttentionArgs& args, const LaunchOptions& options) {
  const int32_t kv_heads = args.cache.kv_head_count;
  if (kv_heads <= 0 || args.head_count % kv_heads != 0 || args.head_count / kv_heads > kTileRows) {
    return {Code::kInvalidArgument, "prefill_attention: " + std::to_string(args.head_count) +
                                        " heads over " + std::to_string(kv_heads) + " KV heads"};
  }
  if (args.tile_count == 0) return {};
  switch (args.cache.head_dim) {
    case 64: return launch_prefill<64>(args, options);
    case 128: return launch_prefill<128>(args, options);
    case 256: return launch_prefill<256>(args, options);
  }
  return {Code::kInvalidArgument, "prefill_attention: head size " +
                                      std::to_string(args.cache.head_dim) +
                                      ", need 64, 128 or 256"};
}

}  // namespace quire
