#include "kernels/decode_attention.h"
#include "kernels/decode_merge.cuh"
#include "kernels/ring.cuh"
#include "kernels/sm90.cuh"

namespace quire {
namespace {

constexpr int kConsumerWarps = 4;  // each takes 16 tokens of every block
constexpr int kConsumers = kConsumerWarps * 32;
constexpr int kThreads = kConsumers + 32;
constexpr int kUnitBlocks = kUnitTokens / kBlockTokens;
constexpr int kConsumerBarrier = 1;
constexpr float kLog2E = 1.4426950408889634f;

template <int kHeadDim>
struct Shared {
  static constexpr int kStages = kHeadDim == 64 ? 8 : 4;
  static constexpr int kPage = page_elements(kHeadDim);
  alignas(1024) __nv_bfloat16 ring[kStages][kPage];
  alignas(1024) __nv_bfloat16 query[kGroupRows * kHeadDim];
  float values[kConsumerWarps][kGroupRows][kHeadDim];
  float maxima[kConsumerWarps][kGroupRows];
  float sums[kConsumerWarps][kGroupRows];
  uint64_t full[kStages];
  uint64_t empty[kStages];
  int32_t is_last;
};

// Blocks [first, end) of one unit that the row sees.
struct Blocks {
  int32_t first;
  int32_t end;
};

__device__ Blocks blocks_of(const DecodeAttentionArgs& args, const DecodeUnit& unit,
                            int32_t length) {
  const int32_t unit_index = unit_range(length, args.window).first + unit.index;
  const int32_t hidden = args.window > 0 ? max(length - args.window, 0) : 0;
  return {max(unit_index * kUnitBlocks, hidden / kBlockTokens),
          min((unit_index + 1) * kUnitBlocks, (length + kBlockTokens - 1) / kBlockTokens)};
}

// The units of this thread block: equal shares of the flat order.
struct Share {
  int32_t begin;
  int32_t end;
};

__device__ Share share_of(const DecodeAttentionArgs& args, int32_t head_units) {
  const int64_t total = int64_t{args.unit_starts[args.rows]} * head_units;
  return {static_cast<int32_t>(total * blockIdx.x / gridDim.x),
          static_cast<int32_t>(total * (blockIdx.x + 1) / gridDim.x)};
}

// One warp moves all pages of the share. Older blocks are complete before the predecessor ends; the
// last block of a row may hold the token that the predecessor stores.
template <int kHeadDim>
__device__ void produce(const DecodeAttentionArgs& args, Shared<kHeadDim>& shared,
                        const Tiles& tiles, Share share, int lane) {
  RingCursor<Shared<kHeadDim>::kStages> cursor;
  cursor.parity = 1;
  bool waited = false;
  const auto* data = static_cast<const __nv_bfloat16*>(args.cache.data);
  DecodeUnit unit = find_unit(args.unit_starts, args.rows, tiles.head_units, share.begin);
  for (int32_t flat = share.begin; flat < share.end; ++flat) {
    const int32_t length = args.lengths[unit.row];
    const Blocks blocks = blocks_of(args, unit, length);
    const int32_t* table =
        args.block_tables + int64_t{args.block_rows[unit.row]} * args.blocks_per_row;
    const int32_t mine = blocks.first + lane < blocks.end ? table[blocks.first + lane] : 0;
    const int32_t kv_head = unit.head_unit / tiles.per_kv;
    for (int32_t b = blocks.first; b < blocks.end; ++b) {
      const int32_t block = __shfl_sync(sm90::kAllLanes, mine, b - blocks.first);
      if (!waited && b == (length - 1) / kBlockTokens) {
        sm90::grid_wait();
        sm90::fence_async_global();
        waited = true;
      }
      for (int is_value = 0; is_value < 2; ++is_value) {
        if (lane == 0) {
          sm90::barrier_wait(&shared.empty[cursor.stage], cursor.parity);
          constexpr int kBytes = Shared<kHeadDim>::kPage * 2;
          sm90::barrier_arrive_expect(&shared.full[cursor.stage], kBytes);
          sm90::bulk_copy(shared.ring[cursor.stage],
                          data + page_begin(args.cache, block, is_value, kv_head), kBytes,
                          &shared.full[cursor.stage]);
        }
        cursor.advance();
      }
    }
    if (flat + 1 < share.end) unit = next_unit(args.unit_starts, tiles.head_units, unit);
  }
  if (!waited) sm90::grid_wait();
}

// Rows of the tile beyond the group are zero. Same order of elements as a page.
template <int kHeadDim>
__device__ void load_query(const DecodeAttentionArgs& args, Shared<kHeadDim>& shared,
                           const Tiles& tiles, const DecodeUnit& unit) {
  const HeadRows heads = head_rows(tiles, unit);
  const __nv_bfloat16* source =
      args.query + unit.row * args.query_stride + int64_t{heads.first} * kHeadDim;
  for (int i = threadIdx.x; i < kGroupRows * kHeadDim / 8; i += kConsumers) {
    const int row = i / (kHeadDim / 8), dimension = i % (kHeadDim / 8) * 8;
    uint4 bits = make_uint4(0, 0, 0, 0);
    if (row < heads.count) {
      bits = *reinterpret_cast<const uint4*>(source + row * kHeadDim + dimension);
    }
    const int piece = (dimension / 8) ^ (row % 8);
    *reinterpret_cast<uint4*>(&shared.query[row * kHeadDim + piece * 8]) = bits;
  }
}

// What a warp has of a unit: row g and row g + 8 of the tile, see sm90::mma.
template <int kHeadDim>
struct Piece {
  float values[kHeadDim / 8][4];
  float maxima[2];
  float sums[2];
};

// Scores of 16 tokens from `first_token` on, in units of log 2; -infinity where a row sees nothing.
template <int kHeadDim>
__device__ void score_tokens(const DecodeAttentionArgs& args, const Shared<kHeadDim>& shared,
                             int stage, int32_t first_token, int32_t length, int warp, int lane,
                             float (&scores)[2][4]) {
  const uint32_t query = sm90::shared_address(shared.query);
  const uint32_t page = sm90::shared_address(shared.ring[stage]);
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[n][i] = 0.0f;
  }
#pragma unroll
  for (int k = 0; k < kHeadDim; k += 16) {
    uint32_t a[4], b[4];
    const int a_row = lane % 16, a_piece = (k / 8 + lane / 16) ^ (lane % 8);
    sm90::load_matrices(a, query + (a_row * kHeadDim + a_piece * 8) * 2);
    const int token = warp * 16 + lane / 16 * 8 + lane % 8;
    sm90::load_matrices(b, page + page_element(token, k + lane / 8 % 2 * 8) * 2);
    sm90::mma(scores[0], a, b[0], b[1]);
    sm90::mma(scores[1], a, b[2], b[3]);
  }
  const int32_t hidden = args.window > 0 ? length - args.window : 0;
#pragma unroll
  for (int n = 0; n < 2; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float score = scores[n][i] * args.scale;
      if (args.softcap > 0.0f) score = args.softcap * tanhf(score / args.softcap);
      const int32_t token = first_token + n * 8 + lane % 4 * 2 + i % 2;
      scores[n][i] = token < length && token >= hidden ? score * kLog2E : -INFINITY;
    }
  }
}

// Turns scores into weights under the new maxima and brings the piece under them.
template <int kHeadDim>
__device__ void weigh(float (&scores)[2][4], Piece<kHeadDim>& piece) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float maximum = fmaxf(fmaxf(scores[0][2 * half], scores[0][2 * half + 1]),
                          fmaxf(scores[1][2 * half], scores[1][2 * half + 1]));
    maximum = fmaxf(maximum, __shfl_xor_sync(sm90::kAllLanes, maximum, 1));
    maximum = fmaxf(maximum, __shfl_xor_sync(sm90::kAllLanes, maximum, 2));
    maximum = fmaxf(maximum, piece.maxima[half]);
    const float base = maximum == -INFINITY ? 0.0f : maximum;
    const float factor = exp2f(piece.maxima[half] - base);
    piece.maxima[half] = maximum;
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scores[n][2 * half + i] = exp2f(scores[n][2 * half + i] - base);
        sum += scores[n][2 * half + i];
      }
    }
    piece.sums[half] = piece.sums[half] * factor + sum;
#pragma unroll
    for (int d = 0; d < kHeadDim / 8; ++d) {
      piece.values[d][2 * half] *= factor;
      piece.values[d][2 * half + 1] *= factor;
    }
  }
}

template <int kHeadDim>
__device__ void add_values(const Shared<kHeadDim>& shared, int stage, int warp, int lane,
                           const float (&weights)[2][4], Piece<kHeadDim>& piece) {
  const uint32_t page = sm90::shared_address(shared.ring[stage]);
  const uint32_t a[4] = {
      sm90::pack_bf16(weights[0][0], weights[0][1]), sm90::pack_bf16(weights[0][2], weights[0][3]),
      sm90::pack_bf16(weights[1][0], weights[1][1]), sm90::pack_bf16(weights[1][2], weights[1][3])};
#pragma unroll
  for (int d = 0; d < kHeadDim; d += 16) {
    uint32_t b[4];
    const int token = warp * 16 + lane % 16;
    sm90::load_matrices_transposed(b, page + page_element(token, d + lane / 16 * 8) * 2);
    sm90::mma(piece.values[d / 8], a, b[0], b[1]);
    sm90::mma(piece.values[d / 8 + 1], a, b[2], b[3]);
  }
}

// Every lane gives the stage back for what it read itself.
__device__ void release(uint64_t* empty) {
  sm90::fence_async_shared();
  sm90::barrier_arrive(empty);
}

template <int kHeadDim>
__device__ void consume_unit(const DecodeAttentionArgs& args, Shared<kHeadDim>& shared,
                             RingCursor<Shared<kHeadDim>::kStages>& cursor, Blocks blocks,
                             int32_t length, Piece<kHeadDim>& piece) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  for (int32_t b = blocks.first; b < blocks.end; ++b) {
    float scores[2][4];
    sm90::barrier_wait(&shared.full[cursor.stage], cursor.parity);
    score_tokens(args, shared, cursor.stage, b * kBlockTokens + warp * 16, length, warp, lane,
                 scores);
    release(&shared.empty[cursor.stage]);
    cursor.advance();
    weigh(scores, piece);
    sm90::barrier_wait(&shared.full[cursor.stage], cursor.parity);
    add_values(shared, cursor.stage, warp, lane, scores, piece);
    release(&shared.empty[cursor.stage]);
    cursor.advance();
  }
}

// Writes the warp's piece of the tile's first `rows` rows to shared memory.
template <int kHeadDim>
__device__ void publish_piece(Shared<kHeadDim>& shared, const Piece<kHeadDim>& piece, int rows) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = lane / 4 + 8 * half;
    float sum = piece.sums[half];
    sum += __shfl_xor_sync(sm90::kAllLanes, sum, 1);
    sum += __shfl_xor_sync(sm90::kAllLanes, sum, 2);
    if (row >= rows) continue;
    if (lane % 4 == 0) {
      shared.maxima[warp][row] = piece.maxima[half];
      shared.sums[warp][row] = sum;
    }
#pragma unroll
    for (int d = 0; d < kHeadDim / 8; ++d) {
      *reinterpret_cast<float2*>(&shared.values[warp][row][d * 8 + lane % 4 * 2]) =
          make_float2(piece.values[d][2 * half], piece.values[d][2 * half + 1]);
    }
  }
}

// Joins the four warps' pieces of a unit, and, in the last unit of a row to come here, the row's
// units in order.
template <int kHeadDim>
__device__ void close_unit(const DecodeAttentionArgs& args, Shared<kHeadDim>& shared,
                           const Tiles& tiles, const DecodeUnit& unit, int32_t flat) {
  const HeadRows heads = head_rows(tiles, unit);
  __nv_bfloat16* output =
      args.output + (int64_t{unit.row} * args.head_count + heads.first) * kHeadDim;
  Partial<kHeadDim> partial(args.partials, flat);
  for (int i = threadIdx.x * 4; i < heads.count * kHeadDim; i += kConsumers * 4) {
    const int row = i / kHeadDim, d = i % kHeadDim;
    JoinedFour joined;
#pragma unroll
    for (int w = 0; w < kConsumerWarps; ++w) {
      joined.add(shared.maxima[w][row], shared.sums[w][row],
                 *reinterpret_cast<const float4*>(&shared.values[w][row][d]));
    }
    if (unit.count == 1) {
      joined.finish(output + i);
    } else {
      partial.store(i, joined);
    }
  }
  if (unit.count == 1) return;
  __threadfence();
  sm90::named_barrier(kConsumerBarrier, kConsumers);
  int32_t* ticket = args.tickets + int64_t{unit.row} * tiles.head_units + unit.head_unit;
  if (threadIdx.x == 0) {
    shared.is_last = atomicAdd(ticket, 1) == unit.count - 1;
    if (shared.is_last) *ticket = 0;
    __threadfence();
  }
  sm90::named_barrier(kConsumerBarrier, kConsumers);
  if (!shared.is_last) return;
  for (int i = threadIdx.x * 4; i < heads.count * kHeadDim; i += kConsumers * 4) {
    join_units(Partial<kHeadDim>(args.partials, flat - unit.index), unit.count, i)
        .finish(output + i);
  }
}

template <int kHeadDim>
__device__ void consume(const DecodeAttentionArgs& args, Shared<kHeadDim>& shared,
                        const Tiles& tiles, Share share) {
  RingCursor<Shared<kHeadDim>::kStages> cursor;
  sm90::grid_wait();
  sm90::grid_trigger();
  if (share.begin == share.end) return;
  DecodeUnit unit = find_unit(args.unit_starts, args.rows, tiles.head_units, share.begin);
  for (int32_t flat = share.begin; flat < share.end; ++flat) {
    load_query(args, shared, tiles, unit);
    sm90::named_barrier(kConsumerBarrier, kConsumers);
    Piece<kHeadDim> piece{};
    piece.maxima[0] = piece.maxima[1] = -INFINITY;
    const int32_t length = args.lengths[unit.row];
    consume_unit(args, shared, cursor, blocks_of(args, unit, length), length, piece);
    publish_piece(shared, piece, head_rows(tiles, unit).count);
    sm90::named_barrier(kConsumerBarrier, kConsumers);
    close_unit(args, shared, tiles, unit, flat);
    if (flat + 1 < share.end) unit = next_unit(args.unit_starts, tiles.head_units, unit);
  }
}

template <int kHeadDim>
__global__ __launch_bounds__(kThreads) void decode_kernel(DecodeAttentionArgs args) {
  extern __shared__ unsigned char memory[];
  auto& shared = *reinterpret_cast<Shared<kHeadDim>*>((reinterpret_cast<uintptr_t>(memory) + 1023) /
                                                      1024 * 1024);
  if (threadIdx.x == 0) {
    for (int s = 0; s < Shared<kHeadDim>::kStages; ++s) {
      sm90::barrier_init(&shared.full[s], 1);
      sm90::barrier_init(&shared.empty[s], kConsumers);
    }
    sm90::fence_barrier_init();
  }
  __syncthreads();
  const Tiles tiles = tiles_of(args.head_count, args.cache.kv_head_count);
  const Share share = share_of(args, tiles.head_units);
  if (threadIdx.x < kConsumers) {
    consume(args, shared, tiles, share);
  } else if (share.begin < share.end) {
    produce(args, shared, tiles, share, threadIdx.x % 32);
  }
}

template <int kHeadDim>
Status launch_decode(const DecodeAttentionArgs& args, const LaunchOptions& options) {
  constexpr int kBytes = sizeof(Shared<kHeadDim>) + 1024;
  static_assert(kBytes <= 227 * 1024);
  QUIRE_TRY(allow_shared_memory(decode_kernel<kHeadDim>, kBytes, "decode_attention"));
  constexpr int kBlocksPerSm = kBytes <= 113 * 1024 ? 2 : 1;
  int sm_count = 0;
  QUIRE_TRY(from_cuda(cudaDeviceGetAttribute(&sm_count, cudaDevAttrMultiProcessorCount, 0),
                      "decode_attention"));
  return launch("decode_attention", decode_kernel<kHeadDim>, dim3(kBlocksPerSm * sm_count),
                kThreads, kBytes, options, args);
}

}  // namespace

int64_t decode_partial_floats(int32_t head_count, int32_t kv_head_count, int32_t head_dim,
                              int64_t units) {
  return units * tiles_of(head_count, kv_head_count).head_units * kGroupRows * (head_dim + 2);
}

int64_t decode_tickets(int32_t head_count, int32_t kv_head_count, int32_t max_rows) {
  return int64_t{max_rows} * tiles_of(head_count, kv_head_count).head_units;
}

Status decode_attention(const DecodeAttentionArgs& args, const LaunchOptions& options) {
  if (args.cache.kv_head_count <= 0 || args.head_count % args.cache.kv_head_count != 0) {
    return {Code::kInvalidArgument, "decode_attention: " + std::to_string(args.head_count) +
                                        " heads over " + std::to_string(args.cache.kv_head_count) +
                                        " KV heads"};
  }
  if (args.rows == 0) return {};
  switch (args.cache.head_dim) {
    case 64: return launch_decode<64>(args, options);
    case 128: return launch_decode<128>(args, options);
    case 256: return launch_decode<256>(args, options);
  }
  return {Code::kInvalidArgument, "decode_attention: head size " +
                                      std::to_string(args.cache.head_dim) +
                                      ", need 64, 128 or 256"};
}

}  // namespace quire
