#include "kernels/cuda_testing.h"
#include "kernels/row_ops.h"
#include "kernels/skinny_linear.h"

namespace quire {
namespace {

using namespace quire::testing;

constexpr int kMaxTokens = 70;

struct Fixture {
  int rows, columns;
  std::vector<Bf16> weights, input;
  std::vector<double> products;  // [kMaxTokens, rows]
  DeviceBuffer<Bf16> d_weights, d_input;
  SkinnyMatrix matrix;
  SkinnyInput activations;

  Fixture(int row_count, int column_count) : rows(row_count), columns(column_count) {
    weights = random_bf16(int64_t{rows} * columns, 0.05f, 31);
    input = random_bf16(int64_t{kMaxTokens} * columns, 1.0f, 32);
    for (int t = 0; t < kMaxTokens; ++t) {
      for (int n = 0; n < rows; ++n) {
        double sum = 0.0;
        for (int k = 0; k < columns; ++k) {
          sum += to_double(input[int64_t{t} * columns + k]) *
                 to_double(weights[int64_t{n} * columns + k]);
        }
        products.push_back(sum);
      }
    }
    d_weights = upload(weights);
    d_input = upload(input);
    EXPECT_OK(make_skinny_matrix(d_weights.data(), rows, columns, &matrix));
    EXPECT_OK(make_skinny_input(d_input.data(), kMaxTokens, columns, &activations));
  }

  SkinnyLinearArgs args(int tokens, SkinnyEpilogue epilogue, void* output, int64_t stride) const {
    SkinnyLinearArgs args;
    args.matrix = &matrix;
    args.input = &activations;
    args.tokens = tokens;
    args.epilogue = epilogue;
    args.output = output;
    args.output_stride = stride;
    return args;
  }
};

// Sizes with a last tile that is not full and a last chunk that is not.
const Fixture& small() {
  static const Fixture fixture(208, 576);
  return fixture;
}

TEST(multiplies_any_number_of_tokens) {
  const Fixture& f = small();
  for (const int tokens : {1, 7, 8, 9, 16, 17, 32, 33, 64, 70}) {
    const auto output = poisoned<Bf16>(int64_t{tokens} * f.rows);
    EXPECT_OK(skinny_linear(f.args(tokens, SkinnyEpilogue::kStore, output.data(), f.rows), {}));
    const std::vector<double> expected(f.products.begin(), f.products.begin() + tokens * f.rows);
    EXPECT_LE(relative_error(download(output), expected), kBf16Tolerance);
  }
}

TEST(a_token_has_the_same_bits_at_every_batch_size) {
  for (const int rows : {4096, 6144}) {
    const int columns = 1024;
    const auto d_weights = upload(random_bf16(int64_t{rows} * columns, 0.05f, 41));
    const auto d_input = upload(random_bf16(int64_t{kMaxTokens} * columns, 1.0f, 42));
    SkinnyMatrix matrix;
    SkinnyInput input;
    EXPECT_OK(make_skinny_matrix(d_weights.data(), rows, columns, &matrix));
    EXPECT_OK(make_skinny_input(d_input.data(), kMaxTokens, columns, &input));
    std::vector<float> first;
    for (const int tokens : {1, 2, 8, 16, 32, 64, 70}) {
      const auto output = poisoned<float>(int64_t{tokens} * rows);
      SkinnyLinearArgs args;
      args.matrix = &matrix;
      args.input = &input;
      args.tokens = tokens;
      args.epilogue = SkinnyEpilogue::kStoreFloat;
      args.output = output.data();
      args.output_stride = rows;
      EXPECT_OK(skinny_linear(args, {}));
      const auto result = download(output);
      if (first.empty()) first = result;
      EXPECT_EQ(differing(result.data(), first.data(), rows), 0);
    }
  }
}

TEST(adds_a_bias_and_stores_float32_with_a_stride) {
  const Fixture& f = small();
  const int tokens = 3, stride = f.rows + 8;
  const auto bias = random_floats(f.rows, 0.0f, 1.0f, 33);
  const auto d_bias = upload(bias);
  const auto output = zeros<float>(int64_t{tokens} * stride);
  SkinnyLinearArgs args = f.args(tokens, SkinnyEpilogue::kStoreFloat, output.data(), stride);
  args.bias = d_bias.data();
  EXPECT_OK(skinny_linear(args, {}));
  std::vector<double> expected(tokens * stride, 0.0);
  for (int t = 0; t < tokens; ++t) {
    for (int n = 0; n < f.rows; ++n) {
      expected[t * stride + n] = f.products[t * f.rows + n] + to_double(bias[n]);
    }
  }
  EXPECT_LE(relative_error(download(output), expected), 1e-5);
}

TEST(adds_the_scaled_product_to_the_output) {
  const Fixture& f = small();
  const int tokens = 19;
  const auto before = random_bf16(int64_t{tokens} * f.rows, 1.0f, 34);
  const auto output = upload(before);
  SkinnyLinearArgs args = f.args(tokens, SkinnyEpilogue::kAddScaled, output.data(), f.rows);
  args.scale = 0.5f;
  EXPECT_OK(skinny_linear(args, {}));
  std::vector<double> expected;
  for (int i = 0; i < tokens * f.rows; ++i) {
    expected.push_back(to_double(before[i]) + 0.5 * f.products[i]);
  }
  EXPECT_LE(relative_error(download(output), expected), kBf16Tolerance);
}

TEST(multiplies_gates_with_their_up_rows) {
  const Fixture& f = small();
  const int tokens = 9, half = f.rows / 2;
  for (const bool is_silu : {true, false}) {
    const auto output = poisoned<Bf16>(int64_t{tokens} * half);
    EXPECT_OK(
        skinny_linear(f.args(tokens, is_silu ? SkinnyEpilogue::kSiluMul : SkinnyEpilogue::kGeluMul,
                             output.data(), half),
                      {}));
    std::vector<double> expected;
    for (int t = 0; t < tokens; ++t) {
      for (int i = 0; i < half; ++i) {
        const double x = f.products[t * f.rows + gated_row(i, false)];
        const double up = f.products[t * f.rows + gated_row(i, true)];
        const double inner = std::sqrt(2.0 / 3.14159265358979) * (x + 0.044715 * x * x * x);
        expected.push_back(
            (is_silu ? x / (1.0 + std::exp(-x)) : 0.5 * x * (1.0 + std::tanh(inner))) * up);
      }
    }
    EXPECT_LE(relative_error(download(output), expected), kBf16Tolerance);
  }
}

TEST(fused_epilogues_have_the_bits_of_a_product_and_a_row_operation) {
  const Fixture& f = small();
  const int tokens = 19, half = f.rows / 2;
  const auto product = poisoned<Bf16>(int64_t{tokens} * f.rows);
  EXPECT_OK(skinny_linear(f.args(tokens, SkinnyEpilogue::kStore, product.data(), f.rows), {}));
  const auto before = random_bf16(int64_t{tokens} * f.rows, 1.0f, 35);
  const auto fused = upload(before), decomposed = upload(before);
  SkinnyLinearArgs args = f.args(tokens, SkinnyEpilogue::kAddScaled, fused.data(), f.rows);
  args.scale = 0.3f;
  EXPECT_OK(skinny_linear(args, {}));
  EXPECT_OK(add_scaled({product.data(), 0.3f, decomposed.data(), tokens, f.rows}, {}));
  EXPECT_EQ(
      differing(download(fused).data(), download(decomposed).data(), int64_t{tokens} * f.rows), 0);
  for (const Gate gate : {Gate::kSilu, Gate::kGeluTanh}) {
    const auto one = poisoned<Bf16>(int64_t{tokens} * half),
               two = poisoned<Bf16>(int64_t{tokens} * half);
    EXPECT_OK(skinny_linear(
        f.args(tokens, gate == Gate::kSilu ? SkinnyEpilogue::kSiluMul : SkinnyEpilogue::kGeluMul,
               one.data(), half),
        {}));
    EXPECT_OK(gated_mul({product.data(), two.data(), gate, tokens, half}, {}));
    EXPECT_EQ(differing(download(one).data(), download(two).data(), int64_t{tokens} * half), 0);
  }
}

TEST(refuses_a_gated_product_of_half_a_tile) {
  const Fixture& f = small();
  SkinnyMatrix matrix = f.matrix;
  matrix.rows = 200;
  SkinnyLinearArgs args = f.args(1, SkinnyEpilogue::kSiluMul, nullptr, 100);
  args.matrix = &matrix;
  EXPECT(skinny_linear(args, {}).code() == Code::kInvalidArgument);
}

TEST(refuses_columns_that_differ) {
  SkinnyMatrix matrix;
  matrix.columns = 128;
  SkinnyInput input;
  input.columns = 64;
  SkinnyLinearArgs args;
  args.matrix = &matrix;
  args.input = &input;
  args.tokens = 1;
  EXPECT(skinny_linear(args, {}).code() == Code::kInvalidArgument);
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run_on_device(); }
