#include "common/philox.h"
#include "kernels/sample.h"
#include "kernels/sample_select.cuh"

namespace quire {
namespace {

// The same constants as in cpu/sample_row.cc, which says why.
constexpr float kGreedyTemperature = 1e-5f;
constexpr float kBanned = -1e30f;
constexpr int kOutputCountMask = 0x7fff;
constexpr float kMassOfOne = 0x1.0p44f;

__device__ Best find_best(SampleShared& shared, const Logits& logits) {
  Best best{-INFINITY, 0x7fffffff};
  logits.for_each([&](float x, int32_t i) {
    if (x > best.value) best = {x, i};  // ids ascend
  });
  return block_best(shared, best);
}

__device__ bool all_finite(const Logits& logits) {
  bool finite = true;
  logits.for_each([&](float x, int32_t) { finite &= isfinite(x) != 0; });
  return __syncthreads_and(finite);
}

__device__ Mass mass_of(float x, float maximum) {
  return static_cast<Mass>(expf(x - maximum) * kMassOfOne);
}

// log(sum(exp(x))) of the row; the same bits whatever the order.
__device__ float log_sum_exp(SampleShared& shared, const Logits& logits, float maximum) {
  Mass sum = 0;
  logits.for_each([&](float x, int32_t) { sum += mass_of(x, maximum); });
  const Mass total = block_prefix(shared, sum).total;
  return maximum + static_cast<float>(log(static_cast<double>(total) * 0x1.0p-44));
}

// Writes the logits that bias, penalties and bans leave to `output`; returns them, or the input
// itself when nothing changes it.
__device__ const float* process(const SamplerRow& row, const float* logits, int32_t count,
                                float* output) {
  if (row.masked_count == 0 && row.bias_count == 0 && row.token_counts == nullptr) return logits;
  for (int32_t i = threadIdx.x; i < count; i += kSampleThreads) output[i] = logits[i];
  __syncthreads();
  for (int32_t i = threadIdx.x; i < row.bias_count; i += kSampleThreads) {
    output[row.bias_ids[i]] += row.bias_values[i];
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < count && row.token_counts != nullptr; i += kSampleThreads) {
    const int seen = row.token_counts[i];
    if (seen == 0) continue;
    const int generated = seen & kOutputCountMask;
    float x = output[i];
    x = x > 0.0f ? x / row.repetition_penalty : x * row.repetition_penalty;
    x = __fsub_rn(x, __fmul_rn(row.frequency_penalty, static_cast<float>(generated)));
    output[i] = generated > 0 ? x - row.presence_penalty : x;
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < row.bias_count; i += kSampleThreads) {
    if (row.bias_values[i] <= kBanBias) output[row.bias_ids[i]] = kBanned;
  }
  for (int32_t i = threadIdx.x; i < row.masked_count; i += kSampleThreads) {
    output[row.masked[i]] = kBanned;
  }
  __syncthreads();
  return output;
}

// The first id in ascending order at which the sum of mass(value) reaches `target`, at most the
// total: first among the warps' shares of the ids, then inside one.
template <class MassOf>
__device__ int32_t find_id(SampleShared& shared, const Logits& logits, Mass target,
                           const MassOf& mass) {
  const int32_t share = (logits.count + kSampleWarps - 1) / kSampleWarps;
  const int32_t warp = threadIdx.x / 32;
  const int32_t end_of_warp = min((warp + 1) * share, logits.count);
  Mass sum = 0;
  logits.for_each_of(warp * share, end_of_warp, threadIdx.x % 32, 32,
                     [&](float x, int32_t) { sum += mass(x); });
  const Mass before_thread = block_prefix(shared, sum).before;
  const Mass before_warp = __shfl_sync(sm90::kAllLanes, before_thread, 0);
  const Mass in_warp = __shfl_sync(sm90::kAllLanes, before_thread + sum, 31) - before_warp;
  __syncthreads();
  if (threadIdx.x % 32 == 0 && before_warp < target && before_warp + in_warp >= target) {
    shared.found = warp * share;
    shared.found_before = before_warp;
  }
  __syncthreads();
  const int32_t first = shared.found, end = min(first + share, logits.count);
  const int32_t part = (share + kSampleThreads - 1) / kSampleThreads;
  const int32_t begin = min(first + static_cast<int32_t>(threadIdx.x) * part, end);
  const int32_t stop = min(begin + part, end);
  sum = 0;
  for (int32_t i = begin; i < stop; ++i) sum += mass(logits[i]);
  Mass before = shared.found_before;
  before += block_prefix(shared, sum).before;
  __syncthreads();
  if (before < target && before + sum >= target) {
    int32_t i = begin;
    while ((before += mass(logits[i])) < target) ++i;
    shared.found = i;
  }
  __syncthreads();
  return shared.found;
}

// The mass of everything from `floor` on.
__device__ Mass mass_above(SampleShared& shared, const Logits& logits, float maximum,
                           uint32_t floor) {
  Mass sum = 0;
  logits.for_each([&](float x, int32_t) {
    if (key_of(x) >= floor) sum += mass_of(x, maximum);
  });
  return block_prefix(shared, sum).total;
}

// Draws from probabilities in descending order (ties by id), cut by min-p, top-k and top-p; by id
// where nothing is cut.
__device__ int32_t draw(SampleShared& shared, const SamplerRow& row, const Logits& logits) {
  const float maximum = find_best(shared, logits).value;
  const auto mass = [=](float x) { return mass_of(x, maximum); };
  const double uniform = uniform_draw(row.seed, static_cast<uint32_t>(row.position));
  const auto drawn = [=](Mass total) {
    return min(static_cast<Mass>(uniform * static_cast<double>(total)) + 1, total);
  };
  if (row.top_k <= 0 && row.top_p >= 1.0f && row.min_p <= 0.0f) {
    return find_id(shared, logits, drawn(mass_above(shared, logits, maximum, 0)), mass);
  }
  uint32_t floor = key_of(row.min_p > 0.0f ? maximum + logf(row.min_p) : kBanned / 2);
  if (row.top_k > 0 && row.top_k < logits.count) {
    const Cut cut = find_cut(shared, logits, maximum, floor, static_cast<Mass>(row.top_k),
                             [](float) { return Mass{1}; });
    if (cut.found) floor = cut.key;
  }
  Mass total = mass_above(shared, logits, maximum, floor);
  if (row.top_p < 1.0f) {
    const Mass target =
        max(Mass{1}, static_cast<Mass>(ceil(static_cast<double>(row.top_p) * total)));
    const Cut cut = find_cut(shared, logits, maximum, floor, target, mass);
    const Mass each = mass(value_of(cut.key));
    if (cut.found && each > 0) total = cut.above + (target - cut.above + each - 1) / each * each;
  }
  const Mass target = drawn(total);
  const Cut cut = find_cut(shared, logits, maximum, floor, target, mass);
  const Mass rank = (target - cut.above - 1) / max(mass(value_of(cut.key)), Mass{1});
  return find_id(shared, logits, rank + 1, [=](float x) { return Mass{key_of(x) == cut.key}; });
}

// The most probable tokens, one search each; there are at most kMaxTopLogprobs.
__device__ void find_top(SampleShared& shared, const SamplerRow& row, const Logits& logits,
                         float logsumexp, int32_t* ids, float* logprobs) {
  Best last{INFINITY, -1};
  for (int32_t n = 0; n < min(row.top_logprobs, logits.count); ++n) {
    Best best{-INFINITY, 0x7fffffff};
    logits.for_each([&](float x, int32_t i) {
      const bool comes_after = x < last.value || (x == last.value && i > last.id);
      if (comes_after && x > best.value) best = {x, i};
    });
    last = block_best(shared, best);
    if (threadIdx.x != 0) continue;
    ids[n] = last.id;
    logprobs[n] = last.value - logsumexp;
  }
}

__global__ __launch_bounds__(kSampleThreads) void sample_kernel(SampleArgs args) {
  __shared__ SampleShared shared;
  sm90::grid_wait();
  sm90::grid_trigger();
  const int index = blockIdx.x;
  const Logits logits{args.logits + index * args.stride, args.vocab_size, 1.0f};
  if (!all_finite(logits)) {
    if (threadIdx.x == 0) args.token_ids[index] = -1;
    return;
  }
  const SamplerRow row = args.samplers[index];
  const Best best = find_best(shared, logits);
  const float logsumexp = log_sum_exp(shared, logits, best.value);
  const float* processed =
      process(row, logits.data, logits.count, args.scratch + index * args.stride);
  int32_t token = best.id;
  if (row.temperature >= kGreedyTemperature) {
    token = draw(shared, row, {processed, logits.count, row.temperature});
  } else if (processed != logits.data) {
    token = find_best(shared, {processed, logits.count, 1.0f}).id;
  }
  if (threadIdx.x == 0) {
    args.token_ids[index] = token;
    args.logprobs[index] = logits[token] - logsumexp;
  }
  find_top(shared, row, logits, logsumexp, args.top_token_ids + index * kMaxTopLogprobs,
           args.top_logprobs + index * kMaxTopLogprobs);
}

}  // namespace

Status sample(const SampleArgs& args, const LaunchOptions& options) {
  if (args.rows == 0) return {};
  return launch("sample", sample_kernel, dim3(args.rows), kSampleThreads, 0, options, args);
}

}  // namespace quire
