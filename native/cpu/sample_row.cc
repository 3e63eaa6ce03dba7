#include "cpu/sample_row.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/philox.h"

namespace quire::cpu {
namespace {

// Below this temperature a row is greedy, as in vLLM.
constexpr float kGreedyTemperature = 1e-5f;
// A banned token's logit: finite, so that sums over nothing but banned tokens stay numbers, and far
// enough below any other that its probability is zero also at high temperatures.
constexpr float kBanned = -1e30f;
// Tokens whose probabilities are summed together before a draw looks at single ones.
constexpr int32_t kSliceTokens = 512;
constexpr int32_t kMaxSlices = 2048;

bool before(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.token_id < b.token_id);
}

void apply_penalties(const RowSampling& sampling, const uint16_t* counts, int32_t vocab_size,
                     float* logits) {
  for (int32_t i = 0; i < vocab_size; ++i) {
    if (counts[i] == 0) continue;
    const int32_t output_count = counts[i] & kMaxOutputCount;
    float logit = logits[i];
    logit =
        logit > 0.0f ? logit / sampling.repetition_penalty : logit * sampling.repetition_penalty;
    logit -= sampling.frequency_penalty * static_cast<float>(output_count);
    logits[i] = output_count > 0 ? logit - sampling.presence_penalty : logit;
  }
}

// Kernels may drop a NaN on the way to a maximum, so it is looked for before.
bool all_finite(const float* logits, int32_t count) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (int32_t i = 0; i < count; ++i) {
    uint32_t bits;
    std::memcpy(&bits, logits + i, sizeof(bits));
    bad |= static_cast<uint32_t>((bits & kExponent) == kExponent);
  }
  return bad == 0;
}

// Writes the logits that bias, bans and penalties leave to `output`; returns them, or the input
// itself when nothing changes it.
const float* process(const SampleInput& input, float* output) {
  const RowSampling& sampling = *input.sampling;
  const bool masks_stops =
      input.generated_count < sampling.min_tokens && !sampling.stop_token_ids.empty();
  if (!masks_stops && sampling.bias_token_ids.empty() && !sampling.has_penalties()) {
    return input.logits;
  }
  std::copy_n(input.logits, input.vocab_size, output);
  for (size_t i = 0; i < sampling.bias_token_ids.size(); ++i) {
    output[sampling.bias_token_ids[i]] += sampling.bias_values[i];
  }
  if (sampling.has_penalties()) {
    apply_penalties(sampling, input.token_counts, input.vocab_size, output);
  }
  for (size_t i = 0; i < sampling.bias_token_ids.size(); ++i) {
    if (sampling.bias_values[i] <= kBanBias) output[sampling.bias_token_ids[i]] = kBanned;
  }
  if (masks_stops) {
    for (const int32_t token_id : sampling.stop_token_ids) output[token_id] = kBanned;
  }
  return output;
}

void find_top(const SampleInput& input, float logsumexp, RowSample* sample) {
  const int32_t count = std::min(input.sampling->top_logprobs, input.vocab_size);
  Candidate best[kMaxTopLogprobs];
  int32_t size = 0;
  for (int32_t i = 0; i < input.vocab_size && count > 0; ++i) {
    const Candidate candidate{input.logits[i], i};
    if (size == count && !before(candidate, best[size - 1])) continue;
    int32_t place = size < count ? size++ : size - 1;
    for (; place > 0 && before(candidate, best[place - 1]); --place) best[place] = best[place - 1];
    best[place] = candidate;
  }
  for (int32_t i = 0; i < size; ++i) {
    sample->top_token_ids[i] = best[i].token_id;
    sample->top_logprobs[i] = best[i].logit - logsumexp;
  }
}

// The first index whose running sum passes `target`, else the last one with any weight.
template <class Weight>
int32_t find_by_sum(int32_t count, double target, const Weight& weight) {
  double sum = 0.0;
  int32_t last = 0;
  for (int32_t i = 0; i < count; ++i) {
    const double w = weight(i);
    if (w <= 0.0) continue;
    last = i;
    sum += w;
    if (sum > target) return i;
  }
  return last;
}

// Draws among all tokens: first a slice by the sums of slices, then a token in it.
int32_t draw_from_all(const KernelTable& table, const float* logits, int32_t vocab_size,
                      double uniform) {
  double weights[kMaxSlices];
  const int32_t slice_tokens = std::max(kSliceTokens, (vocab_size + kMaxSlices - 1) / kMaxSlices);
  const int32_t slice_count = (vocab_size + slice_tokens - 1) / slice_tokens;
  const auto size_of = [&](int32_t slice) {
    return std::min(slice_tokens, vocab_size - slice * slice_tokens);
  };
  float max = -INFINITY;
  for (int32_t s = 0; s < slice_count; ++s) {
    int32_t argmax;
    float logsumexp;
    table.max_and_logsumexp(logits + s * slice_tokens, size_of(s), &argmax, &logsumexp);
    weights[s] = logsumexp;
    max = std::max(max, logsumexp);
  }
  double total = 0.0;
  for (int32_t s = 0; s < slice_count; ++s) {
    weights[s] = std::exp(weights[s] - max);
    total += weights[s];
  }
  double rest = uniform * total;
  const int32_t slice = find_by_sum(slice_count, rest, [&](int32_t s) { return weights[s]; });
  for (int32_t s = 0; s < slice; ++s) rest -= weights[s];
  const float* tokens = logits + slice * slice_tokens;
  return slice * slice_tokens + find_by_sum(size_of(slice), rest, [&](int32_t i) {
           return std::exp(static_cast<double>(tokens[i]) - max);
         });
}

// Gathers at least `wanted` of the largest logits that are no smaller than `floor` (all of them
// when there are fewer), and all others down to a common bound, sorted. Ties are never split.
int32_t gather_largest(const float* logits, int32_t vocab_size, float max, float floor,
                       int32_t wanted, Candidate* candidates) {
  // Bins of 1/32 nat below the maximum; the last holds everything that is further away.
  constexpr int32_t kBins = 1024;
  constexpr float kBinsPerNat = 32.0f;
  const auto bin_of = [max](float logit) {
    return static_cast<int32_t>(
        std::min((max - logit) * kBinsPerNat, static_cast<float>(kBins - 1)));
  };
  int32_t counts[kBins] = {};
  for (int32_t i = 0; i < vocab_size; ++i) {
    if (logits[i] >= floor) ++counts[bin_of(logits[i])];
  }
  int32_t last_bin = 0;
  for (int32_t sum = counts[0]; sum < wanted && last_bin < kBins - 1;) sum += counts[++last_bin];
  int32_t count = 0;
  for (int32_t i = 0; i < vocab_size; ++i) {
    if (logits[i] >= floor && bin_of(logits[i]) <= last_bin) candidates[count++] = {logits[i], i};
  }
  std::sort(candidates, candidates + count, before);
  return count;
}

double weight_of(const Candidate& candidate, float max) {
  return std::exp(static_cast<double>(candidate.logit) - max);
}

// The candidates that hold `top_p` of `total`, or `count` + 1 when they hold less.
int32_t count_top_p(const Candidate* candidates, int32_t count, float max, double top_p,
                    double total) {
  double sum = 0.0;
  for (int32_t i = 0; i < count; ++i) {
    sum += weight_of(candidates[i], max);
    if (sum >= top_p * total) return i + 1;
  }
  return count + 1;
}

// Cuts by min-p, top-k and top-p; returns how many candidates stay, at least one.
int32_t truncate(const float* logits, int32_t vocab_size, const RowSampling& sampling, float max,
                 float logsumexp, Candidate* candidates) {
  constexpr int32_t kFirstWanted = 256;
  const bool has_top_k = sampling.top_k > 0 && sampling.top_k < vocab_size;
  const float floor = sampling.min_p > 0.0f ? max + std::log(sampling.min_p) : kBanned / 2;
  if (has_top_k || sampling.min_p > 0.0f) {
    const int32_t wanted = has_top_k ? sampling.top_k : vocab_size;
    int32_t count = gather_largest(logits, vocab_size, max, floor, wanted, candidates);
    if (has_top_k && count > sampling.top_k) {
      const float least = candidates[sampling.top_k - 1].logit;
      while (candidates[count - 1].logit < least) --count;
    }
    if (sampling.top_p >= 1.0f) return count;
    double total = 0.0;
    for (int32_t i = 0; i < count; ++i) total += weight_of(candidates[i], max);
    return std::min(count, count_top_p(candidates, count, max, sampling.top_p, total));
  }
  const double total = std::exp(static_cast<double>(logsumexp) - max);
  for (int64_t wanted = kFirstWanted;; wanted *= 8) {
    const int32_t limit = static_cast<int32_t>(std::min<int64_t>(wanted, vocab_size));
    const int32_t count = gather_largest(logits, vocab_size, max, floor, limit, candidates);
    const int32_t kept = count_top_p(candidates, count, max, sampling.top_p, total);
    if (kept <= count || limit == vocab_size) return std::min(kept, count);
  }
}

int32_t draw(const KernelTable& table, const float* processed, const SampleInput& input,
             const SampleScratch& scratch) {
  const RowSampling& sampling = *input.sampling;
  for (int32_t i = 0; i < input.vocab_size; ++i) {
    scratch.logits[i] = processed[i] / sampling.temperature;
  }
  const double uniform = uniform_draw(sampling.seed, static_cast<uint32_t>(input.position));
  const bool truncates = sampling.top_k > 0 || sampling.top_p < 1.0f || sampling.min_p > 0.0f;
  if (!truncates) return draw_from_all(table, scratch.logits, input.vocab_size, uniform);

  int32_t argmax;
  float logsumexp;
  table.max_and_logsumexp(scratch.logits, input.vocab_size, &argmax, &logsumexp);
  const float max = scratch.logits[argmax];
  const Candidate* candidates = scratch.candidates;
  const int32_t count =
      truncate(scratch.logits, input.vocab_size, sampling, max, logsumexp, scratch.candidates);
  double total = 0.0;
  for (int32_t i = 0; i < count; ++i) total += weight_of(candidates[i], max);
  return candidates[find_by_sum(count, uniform * total,
                                [&](int32_t i) { return weight_of(candidates[i], max); })]
      .token_id;
}

}  // namespace

bool sample_row(const KernelTable& table, const SampleInput& input, const SampleScratch& scratch,
                RowSample* sample) {
  if (!all_finite(input.logits, input.vocab_size)) return false;
  int32_t argmax;
  float logsumexp;
  table.max_and_logsumexp(input.logits, input.vocab_size, &argmax, &logsumexp);

  const RowSampling& sampling = *input.sampling;
  const float* processed = process(input, scratch.logits);
  if (sampling.temperature >= kGreedyTemperature) {
    sample->token_id = draw(table, processed, input, scratch);
  } else if (processed == input.logits) {
    sample->token_id = argmax;
  } else {
    float unused;
    table.max_and_logsumexp(processed, input.vocab_size, &sample->token_id, &unused);
  }
  sample->logprob = input.logits[sample->token_id] - logsumexp;
  if (sampling.top_logprobs > 0) find_top(input, logsumexp, sample);
  return true;
}

}  // namespace quire::cpu
