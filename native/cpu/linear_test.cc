#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "cpu/tier_testing.h"
#include "cpu/tiers/tables.h"

namespace quire::cpu {
namespace {

using namespace testing;

struct Case {
  WeightType type;
  Compute compute;
  int32_t rows;
  int32_t columns;
};

// Rows that do not fill a panel, columns that fill no vector, and the shapes of a small model.
const Case kCases[] = {
    {WeightType::kF32, Compute::kFloat32, 40, 100},
    {WeightType::kF32, Compute::kFloat32, 1, 7},
    {WeightType::kBF16, Compute::kFloat32, 130, 576},
    {WeightType::kF16, Compute::kFloat32, 17, 33},
    {WeightType::kQ4_1, Compute::kFloat32, 50, 96},
    {WeightType::kQ6_K, Compute::kFloat32, 18, 512},
    {WeightType::kF32, Compute::kBFloat16, 40, 100},
    {WeightType::kF16, Compute::kBFloat16, 17, 33},
    {WeightType::kBF16, Compute::kBFloat16, 1, 1},
    {WeightType::kBF16, Compute::kBFloat16, 16, 7},
    {WeightType::kBF16, Compute::kBFloat16, 100, 100},
    {WeightType::kBF16, Compute::kBFloat16, 130, 576},
    {WeightType::kBF16, Compute::kBFloat16, 200, 2048},
    {WeightType::kQ4_0, Compute::kBFloat16, 40, 128},
    {WeightType::kQ4_1, Compute::kBFloat16, 1, 32},
    {WeightType::kQ4_1, Compute::kBFloat16, 130, 576},
    {WeightType::kQ4_1, Compute::kBFloat16, 200, 1536},
    {WeightType::kQ5_0, Compute::kBFloat16, 72, 640},
    {WeightType::kQ5_1, Compute::kBFloat16, 33, 64},
    {WeightType::kQ8_0, Compute::kBFloat16, 130, 576},
    {WeightType::kQ8_0, Compute::kBFloat16, 15, 32},
    {WeightType::kQ8_0, Compute::kBFloat16, 40, 96},
    {WeightType::kQ4_K, Compute::kBFloat16, 20, 512},
    {WeightType::kQ5_K, Compute::kBFloat16, 20, 256},
    {WeightType::kQ6_K, Compute::kBFloat16, 20, 512},
};

PackedMatrix packed_case(const KernelTable& table, const Case& c) {
  return pack_matrix(table, c.type, c.compute, c.rows, c.columns,
                     random_weights(c.type, c.rows, c.columns, 11));
}

// Outputs of `token_count` tokens, each row `rows + 3` long: the gap must stay as it was.
constexpr int32_t kGap = 3;
constexpr float kPoison = -7e7f;

std::vector<float> run_linear(const KernelTable& table, const Matrix& matrix,
                              const std::vector<float>& inputs, int32_t token_count,
                              int32_t panels_a_call) {
  const int64_t stride = table.activation_bytes(matrix.packing, matrix.columns);
  EXPECT_EQ(stride % 64, 0);
  const Buffer activations = buffer(stride * token_count);
  for (int32_t t = 0; t < token_count; ++t) {
    const Buffer input =
        guarded_copy(&inputs[static_cast<int64_t>(t) * matrix.columns], matrix.columns);
    table.prepare_activation(matrix.packing, reinterpret_cast<const float*>(input.get()),
                             matrix.columns, activations.get() + t * stride);
  }
  std::vector<float> output(static_cast<int64_t>(token_count) * (matrix.rows + kGap), kPoison);
  const int32_t panels = panel_count(matrix.rows);
  for (int32_t p = 0; p < panels; p += panels_a_call) {
    table.linear(matrix, activations.get(), token_count, p, std::min(panels, p + panels_a_call),
                 output.data(), matrix.rows + kGap);
  }
  for (int32_t t = 0; t < token_count; ++t) {
    for (int32_t i = 0; i < kGap; ++i) {
      EXPECT_EQ(output[static_cast<int64_t>(t) * (matrix.rows + kGap) + matrix.rows + i], kPoison);
    }
  }
  return output;
}

std::vector<double> exact_product(const PackedMatrix& packed, const std::vector<float>& input) {
  std::vector<double> output(packed.matrix.rows);
  for (int32_t n = 0; n < packed.matrix.rows; ++n) {
    for (int32_t k = 0; k < packed.matrix.columns; ++k) {
      output[n] += static_cast<double>(input[k]) *
                   packed.values[static_cast<int64_t>(n) * packed.matrix.columns + k];
    }
  }
  return output;
}

double linear_error(const KernelTable& table, const PackedMatrix& packed,
                    const std::vector<float>& input) {
  std::vector<float> output = run_linear(table, packed.matrix, input, 1, 1000);
  output.resize(packed.matrix.rows);
  return relative_error(output, exact_product(packed, input));
}

// Inputs that every activation format holds exactly: in each 32 of them, small integers with a
// largest magnitude of 127, times one power of two.
std::vector<float> representable_inputs(int32_t columns) {
  std::mt19937 generator(5);
  std::vector<float> inputs(columns);
  for (int32_t k = 0; k < columns; ++k) {
    const int magnitude = k % 32 == 3 ? 127 : static_cast<int>(generator() % 128);
    const float unit = std::ldexp(1.0f, k / 32 % 5 - 6);
    inputs[k] = static_cast<float>(generator() % 2 == 0 ? magnitude : -magnitude) * unit;
  }
  return inputs;
}

bool keeps_weights(const Matrix& matrix, WeightType type) {
  return matrix.packing != kBf16Panels || type == WeightType::kBF16;
}

TEST(linear_is_the_product_when_inputs_are_representable) {
  for_each_tier([](const KernelTable& table) {
    for (const Case& c : kCases) {
      const PackedMatrix packed = packed_case(table, c);
      // float32 sums of up to 2048 terms; bf16 keeps 8 bits of a weight that it has to round.
      const double bound = keeps_weights(packed.matrix, c.type) ? 1e-5 : 1e-2;
      EXPECT_LE(linear_error(table, packed, representable_inputs(c.columns)), bound);
    }
  });
}

TEST(linear_rounds_inputs_no_more_than_its_format_must) {
  for_each_tier([](const KernelTable& table) {
    for (const Case& c : kCases) {
      if (c.columns < 32) continue;  // too few terms for a mean error
      const PackedMatrix packed = packed_case(table, c);
      // int8 of the largest of 32 is 0.5 % of the norm, bf16 inputs and weights 0.2 %.
      const double bound = c.compute == Compute::kFloat32 ? 1e-5 : 1.2e-2;
      EXPECT_LE(linear_error(table, packed, random_floats(c.columns, 3)), bound);
    }
  });
}

TEST(packing_keeps_every_weight_that_bfloat16_does_not_round) {
  for_each_tier([](const KernelTable& table) {
    for (const Case& c : kCases) {
      const PackedMatrix packed = packed_case(table, c);
      std::vector<float> row(c.columns);
      for (int32_t r = 0; r < c.rows; ++r) {
        table.unpack_row(packed.matrix, r, row.data());
        const float* values = &packed.values[static_cast<int64_t>(r) * c.columns];
        const bool rounds = packed.matrix.packing == kBf16Panels;
        for (int32_t k = 0; k < c.columns; ++k) {
          EXPECT_EQ(row[k], rounds ? rounded_to_bfloat16(values[k]) : values[k]);
        }
      }
      if (c.compute == Compute::kFloat32) {
        EXPECT_EQ(packed.matrix.packing, static_cast<int32_t>(kFloat32Panels));
      }
    }
  });
}

TEST(panels_pack_alone_or_together_to_the_same_bytes) {
  for_each_tier([](const KernelTable& table) {
    for (const Case& c : kCases) {
      const std::vector<std::byte> source = random_weights(c.type, c.rows, c.columns, 11);
      const PackedMatrix whole = pack_matrix(table, c.type, c.compute, c.rows, c.columns, source);
      const int64_t bytes = table.packed_bytes(whole.matrix.packing, c.rows, c.columns);
      EXPECT_EQ(bytes % 64, 0);
      const Buffer parts = buffer(bytes, 0x5a);
      for (int32_t row = (c.rows - 1) / kPanelRows * kPanelRows; row >= 0; row -= kPanelRows) {
        table.pack(whole.matrix.packing, c.type, source.data() + row * row_bytes(c.type, c.columns),
                   row, std::min(kPanelRows, c.rows - row), c.columns, parts.get());
      }
      EXPECT_EQ(std::memcmp(parts.get(), whole.memory.get(), bytes), 0);
    }
  });
}

TEST(a_token_gets_the_same_bits_in_any_batch_and_any_split) {
  for_each_tier([](const KernelTable& table) {
    constexpr int32_t kTokens = 64;
    for (const Case& c : kCases) {
      const PackedMatrix packed = packed_case(table, c);
      const std::vector<float> inputs =
          random_floats(static_cast<int64_t>(kTokens) * c.columns, 17);
      const int64_t row = c.rows + kGap;
      std::vector<float> alone;
      for (int32_t t = 0; t < kTokens; ++t) {
        const std::vector<float> input(inputs.begin() + static_cast<int64_t>(t) * c.columns,
                                       inputs.begin() + static_cast<int64_t>(t + 1) * c.columns);
        const std::vector<float> output = run_linear(table, packed.matrix, input, 1, 1);
        alone.insert(alone.end(), output.begin(), output.end());
      }
      for (int32_t token_count :
           {2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 33, 50, kTokens}) {
        for (int32_t panels : {1, 3, 5, 1000}) {
          const std::vector<float> output =
              run_linear(table, packed.matrix, inputs, token_count, panels);
          EXPECT(same_bits(output.data(), alone.data(), token_count * row));
        }
      }
    }
  });
}

TEST(a_token_gets_the_same_bits_in_a_chunk_that_no_cache_holds) {
  for_each_tier([](const KernelTable& table) {
    constexpr int32_t kTokens = 557;
    for (const Case& c : {Case{WeightType::kBF16, Compute::kBFloat16, 40, 3000},
                          Case{WeightType::kQ4_1, Compute::kBFloat16, 40, 1536}}) {
      const PackedMatrix packed = packed_case(table, c);
      const std::vector<float> inputs =
          random_floats(static_cast<int64_t>(kTokens) * c.columns, 19);
      const int64_t row = c.rows + kGap;
      const std::vector<float> output = run_linear(table, packed.matrix, inputs, kTokens, 1000);
      for (int32_t t : {0, 31, 32, 255, 256, 511, 512, 543, 544, 556}) {
        const std::vector<float> input(inputs.begin() + static_cast<int64_t>(t) * c.columns,
                                       inputs.begin() + static_cast<int64_t>(t + 1) * c.columns);
        const std::vector<float> alone = run_linear(table, packed.matrix, input, 1, 1);
        EXPECT(same_bits(&output[t * row], alone.data(), row));
      }
    }
  });
}

TEST(zero_tokens_and_zero_panels_write_nothing) {
  for_each_tier([](const KernelTable& table) {
    const PackedMatrix packed = packed_case(table, {WeightType::kBF16, Compute::kBFloat16, 20, 32});
    EXPECT(run_linear(table, packed.matrix, {}, 0, 1).empty());
    float untouched = kPoison;
    const Buffer activation =
        buffer(table.activation_bytes(packed.matrix.packing, packed.matrix.columns), 0);
    table.linear(packed.matrix, activation.get(), 1, 1, 1, &untouched, 0);
    EXPECT_EQ(untouched, kPoison);
  });
}

TEST(zero_inputs_give_zero_outputs) {
  for_each_tier([](const KernelTable& table) {
    for (const Case& c : kCases) {
      const PackedMatrix packed = packed_case(table, c);
      std::vector<float> output =
          run_linear(table, packed.matrix, std::vector<float>(c.columns, 0.0f), 1, 1000);
      for (int32_t n = 0; n < c.rows; ++n) EXPECT_EQ(output[n], 0.0f);
    }
  });
}

}  // namespace
}  // namespace quire::cpu

int main() {
  quire::cpu::testing::print_tiers();
  return quire::testing::run();
}
