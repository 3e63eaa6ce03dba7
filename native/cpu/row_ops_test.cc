#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/tier_testing.h"

namespace quire::cpu {
namespace {

using namespace testing;

// float32 arithmetic of a few operations an element, and sums of up to 50,000 of them.
constexpr double kTolerance = 1e-5;

const int32_t kLengths[] = {1, 2, 15, 16, 17, 31, 33, 100, 576, 1536, 4096, 49157};

// Runs operation(output) on a row behind which nothing can be read or written.
template <class Operation>
std::vector<float> guarded(int32_t n, const Operation& operation) {
  const Buffer memory = guarded_copy(std::vector<float>(n, 123.5f).data(), n);
  auto* output = reinterpret_cast<float*>(memory.get());
  operation(output);
  return std::vector<float>(output, output + n);
}

TEST(rms_norm_scales_by_weight_plus_offset) {
  for_each_tier([](const KernelTable& table) {
    for (int32_t n : kLengths) {
      for (float offset : {0.0f, 1.0f}) {
        const std::vector<float> input = random_floats(n, 1, 3.0f), weight = random_floats(n, 2);
        const float epsilon = 1e-5f;
        double squares = 0;
        for (float x : input) squares += static_cast<double>(x) * x;
        std::vector<double> expected(n);
        for (int32_t i = 0; i < n; ++i) {
          expected[i] = input[i] / std::sqrt(squares / n + epsilon) *
                        (static_cast<double>(weight[i]) + offset);
        }
        const std::vector<float> output = guarded(n, [&](float* out) {
          table.rms_norm(input.data(), weight.data(), offset, epsilon, n, out);
        });
        EXPECT_LE(relative_error(output, expected), kTolerance);
        const std::vector<float> in_place = guarded(n, [&](float* out) {
          std::memcpy(out, input.data(), n * sizeof(float));
          table.rms_norm(out, weight.data(), offset, epsilon, n, out);
        });
        EXPECT(same_bits(in_place.data(), output.data(), n));
      }
    }
  });
}

TEST(rms_norm_of_zeros_is_zeros) {
  for_each_tier([](const KernelTable& table) {
    const std::vector<float> zeros(40, 0.0f), ones(40, 1.0f);
    const std::vector<float> output = guarded(
        40, [&](float* out) { table.rms_norm(zeros.data(), ones.data(), 0, 1e-6f, 40, out); });
    for (float value : output) EXPECT_EQ(value, 0.0f);
  });
}

double silu(double x) { return x / (1 + std::exp(-x)); }

double gelu(double x) {
  return 0.5 * x * (1 + std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

using GatedOp = void (*)(const float* gate, const float* up, int32_t n, float* output);

void check_gated(GatedOp operation, double (*exact)(double)) {
  for (int32_t n : kLengths) {
    std::vector<float> gate = random_floats(n, 1, 4.0f);
    const std::vector<float> up = random_floats(n, 2);
    std::vector<double> expected(n);
    for (int32_t i = 0; i < n; ++i) expected[i] = exact(gate[i]) * up[i];
    const std::vector<float> output =
        guarded(n, [&](float* out) { operation(gate.data(), up.data(), n, out); });
    EXPECT_LE(relative_error(output, expected), kTolerance);
    const std::vector<float> in_place = guarded(n, [&](float* out) {
      std::memcpy(out, gate.data(), n * sizeof(float));
      operation(out, up.data(), n, out);
    });
    EXPECT(same_bits(in_place.data(), output.data(), n));
  }
  // Far out the gate is the identity, and zero.
  const std::vector<float> gate = {100.0f, -100.0f, 1e4f, -1e4f, 3e38f, -3e38f, 0.0f};
  const std::vector<float> up(gate.size(), 1.0f);
  const std::vector<float> output = guarded(static_cast<int32_t>(gate.size()), [&](float* out) {
    operation(gate.data(), up.data(), static_cast<int32_t>(gate.size()), out);
  });
  for (size_t i = 0; i < gate.size(); ++i) {
    EXPECT_LE(std::fabs(output[i] - std::fmax(gate[i], 0.0f)), 1e-30f);
  }
}

TEST(silu_mul_gates) {
  for_each_tier([](const KernelTable& table) { check_gated(table.silu_mul, silu); });
}

TEST(gelu_mul_gates) {
  for_each_tier([](const KernelTable& table) { check_gated(table.gelu_mul, gelu); });
}

TEST(add_scaled_accumulates) {
  for_each_tier([](const KernelTable& table) {
    for (int32_t n : kLengths) {
      const std::vector<float> input = random_floats(n, 1), start = random_floats(n, 2);
      std::vector<double> expected(n);
      for (int32_t i = 0; i < n; ++i) expected[i] = start[i] + 0.3 * input[i];
      const std::vector<float> output = guarded(n, [&](float* out) {
        std::memcpy(out, start.data(), n * sizeof(float));
        table.add_scaled(input.data(), 0.3f, n, out);
      });
      EXPECT_LE(relative_error(output, expected), kTolerance);
    }
  });
}

TEST(scale_softcap_scales_then_caps) {
  for_each_tier([](const KernelTable& table) {
    for (int32_t n : kLengths) {
      for (float softcap : {0.0f, 30.0f}) {
        const std::vector<float> start = random_floats(n, 2, 40.0f);
        std::vector<double> expected(n);
        for (int32_t i = 0; i < n; ++i) {
          expected[i] = start[i] * 0.7;
          if (softcap > 0) expected[i] = softcap * std::tanh(expected[i] / softcap);
        }
        const std::vector<float> output = guarded(n, [&](float* out) {
          std::memcpy(out, start.data(), n * sizeof(float));
          table.scale_softcap(0.7f, softcap, n, out);
        });
        EXPECT_LE(relative_error(output, expected), kTolerance);
      }
    }
  });
}

TEST(softcap_saturates_and_keeps_small_values) {
  for_each_tier([](const KernelTable& table) {
    std::vector<float> logits = {1e30f, -1e30f, 1e-6f, -1e-6f, 0.0f};
    table.scale_softcap(1.0f, 30.0f, 5, logits.data());
    EXPECT_EQ(logits[0], 30.0f);
    EXPECT_EQ(logits[1], -30.0f);
    EXPECT_LE(std::fabs(logits[2] - 1e-6f), 1e-12f);
    EXPECT_LE(std::fabs(logits[3] + 1e-6f), 1e-12f);
    EXPECT_EQ(logits[4], 0.0f);
  });
}

TEST(max_is_the_first_of_equals_and_logsumexp_is_exact) {
  for_each_tier([](const KernelTable& table) {
    for (int32_t n : kLengths) {
      std::vector<float> logits = random_floats(n, 7, 5.0f);
      const int32_t first = n / 3;
      for (int32_t i : {first, (first + n - 1) / 2, n - 1}) logits[i] = 40.0f;
      double sum = 0;
      for (float x : logits) sum += std::exp(static_cast<double>(x) - 40);
      int32_t argmax = -1;
      float logsumexp = 0;
      table.max_and_logsumexp(logits.data(), n, &argmax, &logsumexp);
      EXPECT_EQ(argmax, first);
      EXPECT_LE(std::fabs(logsumexp - (40 + std::log(sum))), 4e-6 * 40);
    }
  });
}

TEST(masked_logits_take_no_part_in_logsumexp) {
  for_each_tier([](const KernelTable& table) {
    std::vector<float> logits(100, -INFINITY);
    logits[37] = -2.5f;
    logits[90] = -2.5f;
    int32_t argmax = -1;
    float logsumexp = 0;
    table.max_and_logsumexp(logits.data(), 100, &argmax, &logsumexp);
    EXPECT_EQ(argmax, 37);
    EXPECT_LE(std::fabs(logsumexp - (-2.5 + std::log(2.0))), 1e-6);
  });
}

TEST(every_position_of_the_maximum_is_found) {
  for_each_tier([](const KernelTable& table) {
    for (int32_t n : {1, 16, 17, 70}) {
      for (int32_t at = 0; at < n; ++at) {
        std::vector<float> logits(n, -3.0f);
        logits[at] = -2.0f;
        int32_t argmax = -1;
        float logsumexp = 0;
        table.max_and_logsumexp(logits.data(), n, &argmax, &logsumexp);
        EXPECT_EQ(argmax, at);
      }
    }
  });
}

TEST(tiers_are_found_by_name) {
  EXPECT(kernel_table("ref") != nullptr);
  EXPECT(kernel_table("sse9") == nullptr);
  EXPECT(kernel_table("") == nullptr);
  const KernelTable* best = kernel_table("auto");
  EXPECT(best != nullptr && kernel_table(best->name) == best);
  int32_t tiers = 0;
  for_each_tier([&](const KernelTable&) { ++tiers; });
  if (tiers > 1) EXPECT(std::strcmp(best->name, "ref") != 0);
}

}  // namespace
}  // namespace quire::cpu

int main() {
  quire::cpu::testing::print_tiers();
  return quire::testing::run();
}
