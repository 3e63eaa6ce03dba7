#include <algorithm>

#include "cpu/sample_row.h"
#include "kernels/cuda_testing.h"
#include "kernels/sample.h"

namespace quire {
namespace {

using namespace quire::testing;

// Rows of logits with a RowSampling each, drawn here and by the CPU's sampler.
class Rows {
 public:
  Rows(int32_t row_count, int32_t vocab_size, float deviation)
      : vocab(vocab_size),
        stride((vocab_size + 15) / 16 * 16),
        logits(random_floats(int64_t{row_count} * stride, 1.0f, deviation, 71)),
        sampling(row_count),
        positions(row_count),
        generated(row_count, 0),
        counts(int64_t{row_count} * vocab_size) {
    for (int32_t i = 0; i < row_count; ++i) {
      sampling[i].seed = 1000 + i;
      positions[i] = i * 3;
    }
  }

  std::vector<cpu::RowSample> on_cpu() const {
    std::vector<cpu::RowSample> samples(sampling.size());
    std::vector<float> scratch(vocab);
    std::vector<cpu::Candidate> candidates(vocab);
    for (size_t i = 0; i < sampling.size(); ++i) {
      const bool finite = cpu::sample_row(*cpu::kernel_table("ref"),
                                          {&logits[i * stride], vocab, &sampling[i],
                                           &counts[i * vocab], positions[i], generated[i]},
                                          {scratch.data(), candidates.data()}, &samples[i]);
      if (!finite) samples[i].token_id = -1;
    }
    return samples;
  }

  // The rows from `first` on, as one batch.
  std::vector<cpu::RowSample> on_device(int32_t first, int32_t count) {
    std::vector<DeviceBuffer<int32_t>> ids;
    std::vector<DeviceBuffer<float>> values;
    const auto d_counts = upload(counts);
    std::vector<SamplerRow> rows(count);
    for (int32_t i = 0; i < count; ++i) {
      rows[i] = sampler(first + i, ids, values);
      if (sampling[first + i].has_penalties())
        rows[i].token_counts = d_counts.data() + int64_t{first + i} * vocab;
    }
    const auto d_logits = upload(logits);
    const auto d_rows = upload(rows);
    const auto scratch = poisoned<float>(int64_t{count} * stride);
    const auto token_ids = poisoned<int32_t>(count),
               top_ids = poisoned<int32_t>(count * kMaxTopLogprobs);
    const auto logprobs = poisoned<float>(count),
               top_logprobs = poisoned<float>(count * kMaxTopLogprobs);
    EXPECT_OK(quire::sample(
        {d_logits.data() + int64_t{first} * stride, stride, vocab, count, d_rows.data(),
         scratch.data(), token_ids.data(), logprobs.data(), top_ids.data(), top_logprobs.data()},
        {}));
    std::vector<cpu::RowSample> samples(count);
    const auto tokens = download(token_ids), tops = download(top_ids);
    const auto probabilities = download(logprobs), top_probabilities = download(top_logprobs);
    for (int32_t i = 0; i < count; ++i) {
      samples[i].token_id = tokens[i];
      samples[i].logprob = probabilities[i];
      std::copy_n(&tops[i * kMaxTopLogprobs], kMaxTopLogprobs, samples[i].top_token_ids);
      std::copy_n(&top_probabilities[i * kMaxTopLogprobs], kMaxTopLogprobs,
                  samples[i].top_logprobs);
    }
    return samples;
  }

  int32_t vocab, stride;
  std::vector<float> logits;
  std::vector<RowSampling> sampling;
  std::vector<int32_t> positions, generated;
  std::vector<uint16_t> counts;

 private:
  SamplerRow sampler(int32_t i, std::vector<DeviceBuffer<int32_t>>& ids,
                     std::vector<DeviceBuffer<float>>& values) const {
    const RowSampling& from = sampling[i];
    SamplerRow row;
    row.temperature = from.temperature;
    row.top_k = from.top_k;
    row.top_p = from.top_p;
    row.min_p = from.min_p;
    row.presence_penalty = from.presence_penalty;
    row.frequency_penalty = from.frequency_penalty;
    row.repetition_penalty = from.repetition_penalty;
    row.top_logprobs = from.top_logprobs;
    row.seed = from.seed;
    row.position = positions[i];
    if (generated[i] < from.min_tokens && !from.stop_token_ids.empty()) {
      ids.push_back(upload(from.stop_token_ids));
      row.masked_count = static_cast<int32_t>(from.stop_token_ids.size());
      row.masked = ids.back().data();
    }
    if (!from.bias_token_ids.empty()) {
      ids.push_back(upload(from.bias_token_ids));
      values.push_back(upload(from.bias_values));
      row.bias_count = static_cast<int32_t>(from.bias_token_ids.size());
      row.bias_ids = ids.back().data();
      row.bias_values = values.back().data();
    }
    return row;
  }
};

void expect_equal(const std::vector<cpu::RowSample>& device,
                  const std::vector<cpu::RowSample>& host, const Rows& rows) {
  for (size_t i = 0; i < host.size(); ++i) {
    EXPECT_EQ(device[i].token_id, host[i].token_id);
    if (host[i].token_id < 0) continue;
    EXPECT_LE(std::abs(device[i].logprob - host[i].logprob), 1e-4f);
    for (int n = 0; n < rows.sampling[i].top_logprobs; ++n) {
      EXPECT_EQ(device[i].top_token_ids[n], host[i].top_token_ids[n]);
      EXPECT_LE(std::abs(device[i].top_logprobs[n] - host[i].top_logprobs[n]), 1e-4f);
    }
  }
}

TEST(draws_what_the_cpu_draws_under_every_truncation) {
  for (const int vocab : {5003, 128256}) {
    Rows rows(96, vocab, 3.0f);
    for (int i = 0; i < 96; ++i) {
      RowSampling& s = rows.sampling[i];
      s.temperature = i % 8 == 0 ? 0.0f : 0.5f + 0.1f * static_cast<float>(i % 7);
      if (i % 3 == 1) s.top_p = 0.05f + 0.9f * static_cast<float>(i) / 96.0f;
      if (i % 4 == 2) s.top_k = 1 + i * 5;
      if (i % 5 == 3) s.min_p = 0.02f;
      if (i % 6 == 0) s.top_logprobs = i % 20 + 1;
    }
    expect_equal(rows.on_device(0, 96), rows.on_cpu(), rows);
  }
}

TEST(takes_the_lowest_of_equal_logits_and_keeps_all_ties_of_the_last_place) {
  Rows rows(64, 1000, 1.0f);
  for (float& logit : rows.logits) logit = std::round(logit * 2.0f) / 2.0f;
  for (int i = 0; i < 64; ++i) {
    rows.sampling[i].temperature = i < 8 ? 0.0f : 1.0f;
    rows.sampling[i].top_k = i % 2 == 0 ? 5 : 0;
    rows.sampling[i].top_p = i % 3 == 0 ? 0.5f : 1.0f;
    rows.sampling[i].top_logprobs = 5;
  }
  expect_equal(rows.on_device(0, 64), rows.on_cpu(), rows);
}

TEST(masks_stops_adds_bias_and_penalizes_like_the_cpu) {
  Rows rows(48, 5003, 2.0f);
  for (int i = 0; i < 48; ++i) {
    RowSampling& s = rows.sampling[i];
    s.temperature = i % 2 == 0 ? 0.0f : 0.8f;
    if (i % 3 == 0) {
      s.presence_penalty = 0.7f;
      s.frequency_penalty = 0.3f;
      s.repetition_penalty = 1.3f;
      for (int n = 0; n < 500; ++n)
        rows.counts[i * 5003 + n * 7] = n % 3 == 0 ? cpu::kInPrompt : n % 5;
    }
    if (i % 4 == 1) {
      s.bias_token_ids = {3, 17, 4000};
      s.bias_values = {12.0f, -100.0f, 11.5f};
    }
    if (i % 4 == 2) {
      s.min_tokens = 4;
      s.stop_token_ids = {3, 17};
      rows.generated[i] = i % 8 == 2 ? 3 : 4;
      rows.logits[int64_t{i} * rows.stride + 17] = 30.0f;
    }
  }
  expect_equal(rows.on_device(0, 48), rows.on_cpu(), rows);
}

TEST(reports_rows_that_are_not_finite) {
  Rows rows(3, 1000, 1.0f);
  rows.logits[1 * rows.stride + 999] = NAN;
  rows.logits[2 * rows.stride + 5] = INFINITY;
  const auto samples = rows.on_device(0, 3);
  EXPECT(samples[0].token_id >= 0);
  EXPECT_EQ(samples[1].token_id, -1);
  EXPECT_EQ(samples[2].token_id, -1);
}

TEST(a_row_draws_the_same_alone) {
  Rows rows(32, 128256, 2.0f);
  for (RowSampling& s : rows.sampling) {
    s.temperature = 1.0f;
    s.top_p = 0.9f;
  }
  const auto together = rows.on_device(0, 32);
  const auto alone = rows.on_device(19, 1);
  EXPECT_EQ(alone[0].token_id, together[19].token_id);
  EXPECT_EQ(alone[0].logprob, together[19].logprob);
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run_on_device(); }
