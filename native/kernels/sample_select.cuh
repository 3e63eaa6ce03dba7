#pragma once

#include <cstdint>

#include "kernels/sm90.cuh"

// Searches of one block of kSampleThreads threads over a row of logits: maxima, integer sums, and
// the value at which a sum from the largest downwards reaches a target, without sorting.
namespace quire {

constexpr int kSampleThreads = 1024;
constexpr int kSampleWarps = kSampleThreads / 32;
constexpr int kBins = 2 * kSampleThreads;

using Mass = unsigned long long;

struct SampleShared {
  Mass histogram[kBins];
  Mass warp_sums[kSampleWarps];
  float warp_maxima[kSampleWarps];
  int32_t warp_ids[kSampleWarps];
  Mass found_before;
  Mass found_mass;
  int32_t found;
  uint32_t lowest;
  uint32_t highest;
};

// Order of floats as integers; both zeros are one.
__device__ inline uint32_t key_of(float x) {
  const uint32_t bits = __float_as_uint(x + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ inline float value_of(uint32_t key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// The block's logits over the temperature, eight loads in flight per thread.
struct Logits {
  const float* data;
  int32_t count;
  float temperature;

  __device__ float operator[](int32_t i) const { return scaled(data[i]); }

  // A division as the CPU's sampler has it, and none where it changes nothing.
  __device__ float scaled(float x) const { return temperature == 1.0f ? x : x / temperature; }

  template <class Function>
  __device__ void for_each(const Function& function) const {
    for_each_of(0, count, threadIdx.x, kSampleThreads, function);
  }

  // Indices begin + first, begin + first + step, .. below `end`, in ascending order.
  template <class Function>
  __device__ void for_each_of(int32_t begin, int32_t end, int32_t first, int32_t step,
                              const Function& function) const {
    constexpr int kAhead = 8;
    for (int32_t base = begin + first; base < end; base += kAhead * step) {
      float x[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        const int32_t i = base + j * step;
        x[j] = i < end ? data[i] : 0.0f;
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        const int32_t i = base + j * step;
        if (i < end) function(scaled(x[j]), i);
      }
    }
  }
};

struct Best {
  float value;
  int32_t id;
};

__device__ inline Best better(Best a, Best b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id) ? a : b;
}

// The best of all threads, in every thread.
__device__ inline Best block_best(SampleShared& shared, Best mine) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    mine = better(mine, {__shfl_xor_sync(sm90::kAllLanes, mine.value, distance),
                         __shfl_xor_sync(sm90::kAllLanes, mine.id, distance)});
  }
  const int warp = threadIdx.x / 32;
  __syncthreads();
  if (threadIdx.x % 32 == 0) {
    shared.warp_maxima[warp] = mine.value;
    shared.warp_ids[warp] = mine.id;
  }
  __syncthreads();
  Best best{shared.warp_maxima[0], shared.warp_ids[0]};
  for (int w = 1; w < kSampleWarps; ++w) {
    best = better(best, {shared.warp_maxima[w], shared.warp_ids[w]});
  }
  return best;
}

struct Prefix {
  Mass before;  // sum of the threads before this one
  Mass total;
};

__device__ inline Prefix block_prefix(SampleShared& shared, Mass mine) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Mass sum = mine;
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const Mass other = __shfl_up_sync(sm90::kAllLanes, sum, distance);
    if (lane >= distance) sum += other;
  }
  __syncthreads();
  if (lane == 31) shared.warp_sums[warp] = sum;
  __syncthreads();
  Prefix prefix{sum - mine, 0};
  for (int w = 0; w < kSampleWarps; ++w) {
    if (w < warp) prefix.before += shared.warp_sums[w];
    prefix.total += shared.warp_sums[w];
  }
  return prefix;
}

// The bin in which the histogram's running sum reaches `target`; shared.found is -1 where it never
// does.
__device__ inline void find_bin(SampleShared& shared, Mass target) {
  __syncthreads();
  const int bin = 2 * threadIdx.x;
  const Mass first = shared.histogram[bin], second = shared.histogram[bin + 1];
  const Mass before = block_prefix(shared, first + second).before;
  if (threadIdx.x == 0) shared.found = -1;
  __syncthreads();
  if (before < target && before + first + second >= target) {
    const bool is_second = before + first < target;
    shared.found = bin + is_second;
    shared.found_before = is_second ? before + first : before;
    shared.found_mass = is_second ? second : first;
  }
  __syncthreads();
}

__device__ inline void clear_bins(SampleShared& shared) {
  __syncthreads();
  shared.histogram[2 * threadIdx.x] = 0;
  shared.histogram[2 * threadIdx.x + 1] = 0;
  __syncthreads();
}

// Where a sum from the largest value downwards reaches its target.
struct Cut {
  bool found;
  uint32_t key;  // of the value
  Mass above;    // sum over larger values, less than the target
};

// Of the values with a key of at least `floor`, sums `mass(value)` from the largest on. First by
// distance from `maximum` in steps of 1/64, which spreads logits evenly, then inside one such bin
// by key.
template <class MassOf>
__device__ Cut find_cut(SampleShared& shared, const Logits& logits, float maximum, uint32_t floor,
                        Mass target, const MassOf& mass) {
  const auto bin_of = [=](float x) {
    return static_cast<int>(fminf((maximum - x) * 64.0f, kBins - 1.0f));
  };
  clear_bins(shared);
  logits.for_each([&](float x, int32_t) {
    if (key_of(x) >= floor) atomicAdd(&shared.histogram[bin_of(x)], mass(x));
  });
  find_bin(shared, target);
  if (shared.found < 0) return {false, floor, 0};
  const int bin = shared.found;
  Mass above = shared.found_before;
  __syncthreads();
  if (threadIdx.x == 0) {
    shared.lowest = 0xffffffffu;
    shared.highest = 0;
  }
  __syncthreads();
  const auto in_bin = [&](float x, uint32_t key) { return key >= floor && bin_of(x) == bin; };
  logits.for_each([&](float x, int32_t) {
    const uint32_t key = key_of(x);
    if (!in_bin(x, key)) return;
    atomicMin(&shared.lowest, key);
    atomicMax(&shared.highest, key);
  });
  __syncthreads();
  uint32_t low = shared.lowest, high = shared.highest;
  while (low < high) {
    const uint32_t width = (high - low) / kBins + 1;
    clear_bins(shared);
    logits.for_each([&](float x, int32_t) {
      const uint32_t key = key_of(x);
      if (in_bin(x, key) && key >= low && key <= high) {
        atomicAdd(&shared.histogram[(high - key) / width], mass(x));
      }
    });
    find_bin(shared, target - above);
    above += shared.found_before;
    high -= static_cast<uint32_t>(shared.found) * width;
    low = high - low >= width ? high - width + 1 : low;
  }
  return {true, high, above};
}

}  // namespace quire
