#include "common/row_sampling.h"
#include "kernels/cuda_testing.h"
#include "kernels/row_ops.h"
#include "kernels/skinny_plan.h"

namespace quire {
namespace {

using namespace quire::testing;

TEST(embeds_given_tokens_last_tokens_and_zero_for_other_ranks) {
  const int columns = 576, first = 100, table_rows = 50;
  const auto table = random_bf16(table_rows * columns, 1.0f, 1);
  const std::vector<int32_t> ids = {100, kLastSampled, 149, 99, 150}, rows = {0, 2, 0, 1, 1};
  const std::vector<int32_t> last = {7, 8, 120};
  const std::vector<int32_t> expected = {0, 20, 49, -1, -1};
  const auto d_table = upload(table);
  const auto d_ids = upload(ids), d_rows = upload(rows), d_last = upload(last);
  const auto d_output = poisoned<Bf16>(5 * columns);
  EXPECT_OK(embed({d_table.data(), first, table_rows, 2.0f, d_ids.data(), d_rows.data(),
                   d_last.data(), d_output.data(), 5, columns},
                  {}));
  const auto output = download(d_output);
  for (int t = 0; t < 5; ++t) {
    for (int i = 0; i < columns; ++i) {
      const double x = expected[t] < 0 ? 0.0 : 2.0 * to_double(table[expected[t] * columns + i]);
      EXPECT_EQ(to_double(output[t * columns + i]), x);
    }
  }
}

TEST(multiplies_the_gate_with_its_up_column) {
  const int tokens = 3, columns = 1536;
  const auto input = random_bf16(tokens * 2 * columns, 2.0f, 5);
  for (const Gate gate : {Gate::kSilu, Gate::kGeluTanh}) {
    std::vector<double> expected;
    for (int t = 0; t < tokens; ++t) {
      for (int i = 0; i < columns; ++i) {
        const Bf16* row = &input[int64_t{t} * 2 * columns];
        const double x = to_double(row[gated_row(i, false)]),
                     up = to_double(row[gated_row(i, true)]);
        const double gelu =
            0.5 * x *
            (1.0 + std::tanh(std::sqrt(2.0 / 3.14159265358979) * (x + 0.044715 * x * x * x)));
        expected.push_back((gate == Gate::kSilu ? x / (1.0 + std::exp(-x)) : gelu) * up);
      }
    }
    const auto d_input = upload(input);
    const auto d_output = poisoned<Bf16>(tokens * columns);
    EXPECT_OK(gated_mul({d_input.data(), d_output.data(), gate, tokens, columns}, {}));
    EXPECT_LE(relative_error(download(d_output), expected), kBf16Tolerance);
  }
}

TEST(adds_scaled_rows) {
  const int rows = 3, columns = 576;
  const auto input = random_bf16(rows * columns, 1.0f, 6),
             before = random_bf16(rows * columns, 1.0f, 7);
  const auto d_input = upload(input), accumulator = upload(before);
  EXPECT_OK(add_scaled({d_input.data(), 0.25f, accumulator.data(), rows, columns}, {}));
  std::vector<double> expected;
  for (int i = 0; i < rows * columns; ++i) {
    expected.push_back(to_double(before[i]) + 0.25 * to_double(input[i]));
  }
  EXPECT_LE(relative_error(download(accumulator), expected), kBf16Tolerance);
}

TEST(gathers_rows_in_the_order_of_the_indices) {
  const int columns = 64;
  const auto input = random_bf16(10 * columns, 1.0f, 3);
  const std::vector<int32_t> indices = {9, 0, 4};
  const auto d_input = upload(input);
  const auto d_indices = upload(indices);
  const auto d_output = poisoned<Bf16>(3 * columns);
  EXPECT_OK(gather_rows({d_input.data(), d_indices.data(), d_output.data(), 3, columns}, {}));
  const auto output = download(d_output);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(differing(&output[i * columns], &input[indices[i] * columns], columns), 0);
  }
}

TEST(caps_logits_and_leaves_the_padding) {
  const int columns = 1001, stride = 1008;
  auto logits = random_floats(2 * stride, 0.0f, 40.0f, 9);
  const auto d_logits = upload(logits);
  EXPECT_OK(scale_softcap(d_logits.data(), 2, columns, stride, 0.5f, 30.0f, {}));
  const auto output = download(d_logits);
  double worst = 0.0;
  for (int row = 0; row < 2; ++row) {
    for (int i = 0; i < stride; ++i) {
      const float x = logits[row * stride + i];
      const double expected = i < columns ? 30.0 * std::tanh(0.5 * x / 30.0) : x;
      worst = std::max(worst, std::abs(output[row * stride + i] - expected));
    }
  }
  EXPECT_LE(worst, 1e-4);
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run_on_device(); }
