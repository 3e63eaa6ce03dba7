#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/decode_plan.h"
#include "kernels/softmax.h"

// How the units of decode attention are joined: the query heads that share a tile, the workspace of
// a unit, and the arithmetic.
namespace quire {

constexpr int kGroupRows = 16;  // query heads of one tile; tiles beyond it read the pages again

struct Tiles {
  int32_t group;       // query heads per KV head
  int32_t per_kv;      // tiles of kGroupRows in it
  int32_t head_units;  // per row
};

__host__ __device__ inline Tiles tiles_of(int32_t head_count, int32_t kv_head_count) {
  const int32_t group = head_count / kv_head_count;
  const int32_t per_kv = (group + kGroupRows - 1) / kGroupRows;
  return {group, per_kv, per_kv * kv_head_count};
}

// The query heads of one unit, [first, first + count).
struct HeadRows {
  int32_t first;
  int32_t count;
};

__device__ inline HeadRows head_rows(const Tiles& tiles, const DecodeUnit& unit) {
  const int32_t begin = unit.head_unit % tiles.per_kv * kGroupRows;
  return {unit.head_unit / tiles.per_kv * tiles.group + begin,
          min(tiles.group - begin, kGroupRows)};
}

// One row's softmax so far, for four dimensions.
struct JoinedFour {
  float maximum = -INFINITY;
  float sum = 0.0f;
  float4 values = {0.0f, 0.0f, 0.0f, 0.0f};

  __device__ void add(float other_maximum, float other_sum, const float4& other) {
    const SoftmaxJoin join = join_softmax(maximum, other_maximum);
    maximum = join.maximum;
    sum = sum * join.first + other_sum * join.second;
    values.x = values.x * join.first + other.x * join.second;
    values.y = values.y * join.first + other.y * join.second;
    values.z = values.z * join.first + other.z * join.second;
    values.w = values.w * join.first + other.w * join.second;
  }

  __device__ void finish(__nv_bfloat16* output) const {
    auto* pairs = reinterpret_cast<__nv_bfloat162*>(output);
    pairs[0] = __floats2bfloat162_rn(values.x / sum, values.y / sum);
    pairs[1] = __floats2bfloat162_rn(values.z / sum, values.w / sum);
  }
};

// A unit's place in the workspace: values [kGroupRows, head_dim], then maxima, then sums. Reads and
// writes go to the L2, where all multiprocessors see them.
template <int kHeadDim>
struct Partial {
  static constexpr int kFloats = kGroupRows * (kHeadDim + 2);
  float* data;

  __device__ Partial(float* workspace, int32_t flat) : data(workspace + int64_t{flat} * kFloats) {}

  __device__ void store(int element, const JoinedFour& joined) {
    __stcg(reinterpret_cast<float4*>(data + element), joined.values);
    if (element % kHeadDim != 0) return;
    const int row = element / kHeadDim;
    __stcg(data + kGroupRows * kHeadDim + row, joined.maximum);
    __stcg(data + kGroupRows * (kHeadDim + 1) + row, joined.sum);
  }
};

// Units 0 to count - 1 of a row, joined from the first to the last, whose workspace starts at
// `first`.
template <int kHeadDim>
__device__ JoinedFour join_units(const Partial<kHeadDim>& first, int32_t count, int element) {
  constexpr int kAhead = 4;  // units whose reads are in flight together
  const int row = element / kHeadDim;
  JoinedFour joined;
  for (int32_t u = 0; u < count; u += kAhead) {
    float maxima[kAhead], sums[kAhead];
    float4 values[kAhead];
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (u + j >= count) continue;
      const float* unit = first.data + int64_t{u + j} * Partial<kHeadDim>::kFloats;
      maxima[j] = __ldcg(unit + kGroupRows * kHeadDim + row);
      sums[j] = __ldcg(unit + kGroupRows * (kHeadDim + 1) + row);
      values[j] = __ldcg(reinterpret_cast<const float4*>(unit + element));
    }
#pragma unroll
    for (int j = 0; j < kAhead; ++j) {
      if (u + j < count) joined.add(maxima[j], sums[j], values[j]);
    }
  }
  return joined;
}

}  // namespace quire
