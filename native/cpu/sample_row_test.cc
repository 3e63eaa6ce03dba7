#include "cpu/sample_row.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "common/testing.h"

namespace quire::cpu {
namespace {

// Samples rows as the backend does, with buffers of its own.
struct Sampler {
  std::vector<float> logits;
  RowSampling sampling;
  std::vector<uint16_t> counts;
  int32_t generated_count = 0;
  bool finite = true;

  explicit Sampler(std::vector<float> row) : logits(std::move(row)), counts(logits.size()) {}

  RowSample draw(int32_t position = 0) {
    const auto size = static_cast<int32_t>(logits.size());
    std::vector<float> scratch(size);
    std::vector<Candidate> candidates(size);
    RowSample sample;
    finite = sample_row(*kernel_table("auto"),
                        {logits.data(), size, &sampling, counts.data(), position, generated_count},
                        {scratch.data(), candidates.data()}, &sample);
    return sample;
  }

  std::set<int32_t> support(int32_t draws = 4000) {
    std::set<int32_t> drawn;
    for (int32_t position = 0; position < draws; ++position) {
      drawn.insert(draw(position).token_id);
    }
    return drawn;
  }
};

using Ids = std::set<int32_t>;

void expect_ids(const Ids& got, const Ids& expected, int line) {
  if (got == expected) return;
  std::string text;
  for (const int32_t id : got) text += " " + std::to_string(id);
  quire::testing::fail(__FILE__, line, "drew" + text);
}

float log_of(double probability) { return static_cast<float>(std::log(probability)); }

TEST(greedy_takes_the_lowest_of_equal_logits) {
  Sampler sampler({1.0f, 3.0f, 2.0f, 3.0f});
  EXPECT_EQ(sampler.draw().token_id, 1);
}

TEST(reports_the_logprobs_of_the_logits_as_they_came) {
  Sampler sampler({log_of(0.5), log_of(0.3), log_of(0.2)});
  sampler.sampling.top_logprobs = 2;
  sampler.sampling.temperature = 0.3f;
  sampler.sampling.bias_token_ids = {2};
  sampler.sampling.bias_values = {50.0f};
  const RowSample sample = sampler.draw();

  EXPECT_EQ(sample.token_id, 2);
  // float32: a sum of three exponentials.
  EXPECT_LE(std::abs(sample.logprob - std::log(0.2)), 1e-6);
  EXPECT_EQ(sample.top_token_ids[0], 0);
  EXPECT_EQ(sample.top_token_ids[1], 1);
  EXPECT_LE(std::abs(sample.top_logprobs[1] - std::log(0.3)), 1e-6);
}

TEST(orders_top_logprobs_by_value_then_id) {
  std::vector<float> logits(300, 0.0f);
  logits[299] = 2.0f;
  logits[7] = 1.0f;
  logits[5] = 1.0f;
  Sampler sampler(logits);
  sampler.sampling.top_logprobs = 4;
  const RowSample sample = sampler.draw();
  EXPECT_EQ(sample.top_token_ids[0], 299);
  EXPECT_EQ(sample.top_token_ids[1], 5);
  EXPECT_EQ(sample.top_token_ids[2], 7);
  EXPECT_EQ(sample.top_token_ids[3], 0);
}

TEST(bans_at_minus_one_hundred_whatever_the_logit) {
  Sampler sampler({200.0f, 1.0f, 0.0f});
  sampler.sampling.bias_token_ids = {0};
  sampler.sampling.bias_values = {-100.0f};
  EXPECT_EQ(sampler.draw().token_id, 1);
  sampler.sampling.bias_values = {-99.0f};
  EXPECT_EQ(sampler.draw().token_id, 0);
}

TEST(masks_stop_tokens_until_min_tokens_were_generated) {
  Sampler sampler({5.0f, 4.0f, 3.0f});
  sampler.sampling.min_tokens = 2;
  sampler.sampling.stop_token_ids = {0};
  sampler.generated_count = 1;
  EXPECT_EQ(sampler.draw().token_id, 1);
  sampler.generated_count = 2;
  EXPECT_EQ(sampler.draw().token_id, 0);
}

TEST(repetition_penalty_divides_positive_and_multiplies_negative_logits) {
  Sampler sampler({2.0f, 1.5f, -9.0f});
  sampler.sampling.repetition_penalty = 2.0f;
  sampler.counts[0] = kInPrompt;
  EXPECT_EQ(sampler.draw().token_id, 1);

  Sampler negative({-1.0f, -1.5f, -9.0f});
  negative.sampling.repetition_penalty = 2.0f;
  negative.counts[0] = 1;
  EXPECT_EQ(negative.draw().token_id, 1);
}

TEST(presence_and_frequency_count_the_output_alone) {
  Sampler prompt({2.0f, 1.5f});
  prompt.sampling.presence_penalty = 1.0f;
  prompt.sampling.frequency_penalty = 1.0f;
  prompt.counts[0] = kInPrompt;
  EXPECT_EQ(prompt.draw().token_id, 0);

  Sampler presence({2.0f, 1.5f});
  presence.sampling.presence_penalty = 0.6f;
  presence.counts[0] = 1;
  EXPECT_EQ(presence.draw().token_id, 1);

  Sampler frequency({2.0f, 1.5f});
  frequency.sampling.frequency_penalty = 0.2f;
  frequency.counts[0] = kInPrompt | 2;
  EXPECT_EQ(frequency.draw().token_id, 0);
  frequency.counts[0] = kInPrompt | 3;
  EXPECT_EQ(frequency.draw().token_id, 1);
}

TEST(top_k_keeps_k_and_the_ties_of_the_last) {
  Sampler sampler({1.0f, 2.0f, 3.0f, 2.0f, 1.5f});
  sampler.sampling.temperature = 2.0f;
  sampler.sampling.top_k = 1;
  expect_ids(sampler.support(), {2}, __LINE__);
  sampler.sampling.top_k = 2;
  expect_ids(sampler.support(), {1, 2, 3}, __LINE__);
  sampler.sampling.top_k = 4;
  expect_ids(sampler.support(), {1, 2, 3, 4}, __LINE__);
}

TEST(top_p_keeps_the_fewest_tokens_that_reach_it) {
  Sampler sampler({log_of(0.4), log_of(0.3), log_of(0.2), log_of(0.1)});
  sampler.sampling.temperature = 1.0f;
  sampler.sampling.top_p = 0.65f;
  expect_ids(sampler.support(), {0, 1}, __LINE__);
  sampler.sampling.top_p = 0.75f;
  expect_ids(sampler.support(), {0, 1, 2}, __LINE__);
  sampler.sampling.top_p = 0.01f;
  expect_ids(sampler.support(), {0}, __LINE__);
}

TEST(top_p_counts_what_top_k_left) {
  Sampler sampler({log_of(0.4), log_of(0.3), log_of(0.2), log_of(0.1)});
  sampler.sampling.temperature = 1.0f;
  sampler.sampling.top_k = 2;
  sampler.sampling.top_p = 0.5f;  // 0.4 of 0.7 is 0.57
  expect_ids(sampler.support(), {0}, __LINE__);
}

TEST(top_p_reaches_past_the_first_candidates_of_a_flat_row) {
  std::vector<float> logits(4096);
  for (int32_t i = 0; i < 4096; ++i) logits[i] = -1e-4f * static_cast<float>(i);
  Sampler sampler(logits);
  sampler.sampling.temperature = 1.0f;
  sampler.sampling.top_p = 0.5f;
  double total = 0.0;
  for (const float logit : logits) total += std::exp(logit);
  int32_t expected = 0;
  for (double sum = 0.0; sum < 0.5 * total; ++expected) sum += std::exp(logits[expected]);
  const Ids drawn = sampler.support(60'000);
  EXPECT_LE(*drawn.rbegin(), expected - 1);
  EXPECT_LE(expected - 10, *drawn.rbegin());
}

TEST(min_p_keeps_what_is_near_the_most_likely) {
  Sampler sampler({log_of(0.5), log_of(0.3), log_of(0.12), log_of(0.08)});
  sampler.sampling.temperature = 1.0f;
  sampler.sampling.min_p = 0.2f;  // of 0.5: 0.1
  expect_ids(sampler.support(), {0, 1, 2}, __LINE__);
}

TEST(banned_tokens_are_never_drawn_at_any_temperature) {
  Sampler sampler({1.0f, 1.0f, 1.0f, 1.0f});
  sampler.sampling.temperature = 10.0f;
  sampler.sampling.bias_token_ids = {1, 3};
  sampler.sampling.bias_values = {-100.0f, -100.0f};
  expect_ids(sampler.support(), {0, 2}, __LINE__);
}

// Pearson's statistic of draws against softmax(logits / temperature).
double chi_square(Sampler& sampler, int32_t draws, const std::vector<double>& expected) {
  std::vector<int32_t> seen(expected.size());
  for (int32_t position = 0; position < draws; ++position) {
    ++seen[sampler.draw(position).token_id];
  }
  double sum = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == 0.0) {
      EXPECT_EQ(seen[i], 0);
      continue;
    }
    const double difference = seen[i] - draws * expected[i];
    sum += difference * difference / (draws * expected[i]);
  }
  return sum;
}

// Upper bound of a chi-square variable with p = 1e-4, by Wilson and Hilferty's approximation.
double chi_square_bound(double degrees) {
  const double z = 3.719;
  const double t = 1.0 - 2.0 / (9.0 * degrees) + z * std::sqrt(2.0 / (9.0 * degrees));
  return degrees * t * t * t;
}

std::vector<double> softmax(const std::vector<float>& logits, double temperature) {
  std::vector<double> weights;
  double total = 0.0;
  for (const float logit : logits) {
    weights.push_back(std::exp(logit / temperature));
    total += weights.back();
  }
  for (double& weight : weights) weight /= total;
  return weights;
}

TEST(draws_among_all_tokens_follow_the_softmax) {
  std::vector<float> logits(1500);  // three slices
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>((i * 37) % 11) * 0.3f;
  Sampler sampler(logits);
  sampler.sampling.temperature = 1.7f;
  sampler.sampling.seed = 11;
  EXPECT_LE(chi_square(sampler, 200'000, softmax(logits, 1.7)), chi_square_bound(1499));
}

TEST(draws_after_truncation_follow_the_renormalised_softmax) {
  const std::vector<float> logits = {0.5f, 2.0f, 1.0f, -1.0f, 1.8f, 0.0f};
  Sampler sampler(logits);
  sampler.sampling.temperature = 0.8f;
  sampler.sampling.top_k = 3;
  sampler.sampling.seed = 3;
  std::vector<double> expected = softmax(logits, 0.8);
  const double kept = expected[1] + expected[2] + expected[4];
  for (const int i : {0, 3, 5}) expected[i] = 0.0;
  for (double& probability : expected) probability /= kept;
  EXPECT_LE(chi_square(sampler, 200'000, expected), chi_square_bound(2));
}

TEST(the_draw_is_a_function_of_seed_and_position) {
  Sampler sampler(std::vector<float>(1000, 0.0f));
  sampler.sampling.temperature = 1.0f;
  sampler.sampling.seed = 5;
  const int32_t first = sampler.draw(9).token_id;
  EXPECT_EQ(sampler.draw(9).token_id, first);
  EXPECT(sampler.draw(10).token_id != first);
  sampler.sampling.seed = 6;
  EXPECT(sampler.draw(9).token_id != first);
}

TEST(refuses_logits_that_are_not_finite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> logits(100, 0.0f);
    logits[70] = bad;
    Sampler sampler(logits);
    sampler.draw();
    EXPECT(!sampler.finite);
  }
}

TEST(leaves_the_logits_as_they_were) {
  Sampler sampler({1.0f, 2.0f, 3.0f});
  sampler.sampling.repetition_penalty = 2.0f;
  sampler.sampling.temperature = 0.5f;
  sampler.counts[2] = 1;
  sampler.draw();
  EXPECT_EQ(sampler.logits[2], 3.0f);
}

}  // namespace
}  // namespace quire::cpu

int main() { return quire::testing::run(); }
