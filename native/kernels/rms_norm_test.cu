#include "kernels/cuda_testing.h"
#include "kernels/rms_norm.h"

namespace quire {
namespace {

using namespace quire::testing;

constexpr float kEpsilon = 1e-5f;

std::vector<double> reference(const std::vector<Bf16>& input, const std::vector<float>& weight,
                              float offset, int columns) {
  std::vector<double> output(input.size());
  for (size_t row = 0; row < input.size() / columns; ++row) {
    double squares = 0.0;
    for (int i = 0; i < columns; ++i) {
      const double x = to_double(input[row * columns + i]);
      squares += x * x;
    }
    const double factor = 1.0 / std::sqrt(squares / columns + static_cast<double>(kEpsilon));
    for (int i = 0; i < columns; ++i) {
      output[row * columns + i] =
          to_double(input[row * columns + i]) * factor * (to_double(weight[i]) + offset);
    }
  }
  return output;
}

TEST(norms_rows_of_every_width) {
  for (const int columns : {8, 64, 576, 4096, 16384}) {
    const int rows = 5;
    const auto input = random_bf16(rows * columns, 2.0f, columns);
    const auto weight = random_floats(columns, 1.0f, 0.3f, columns + 1);
    const auto d_input = upload(input);
    const auto d_weight = upload(weight);
    const auto d_output = poisoned<Bf16>(rows * columns);
    EXPECT_OK(rms_norm({d_input.data(), d_weight.data(), nullptr, 1.0f, 0.5f, kEpsilon,
                        d_output.data(), rows, columns},
                       {}));
    EXPECT_LE(relative_error(download(d_output), reference(input, weight, 0.5f, columns)),
              kBf16Tolerance);
  }
}

TEST(adds_to_the_residual_before_it_norms) {
  const int rows = 3, columns = 1024;
  const auto input = random_bf16(rows * columns, 1.0f, 1),
             residual = random_bf16(rows * columns, 1.0f, 2);
  const auto weight = random_floats(columns, 1.0f, 0.3f, 3);
  std::vector<Bf16> sum(input.size());
  for (size_t i = 0; i < sum.size(); ++i) {
    sum[i] = __float2bfloat16(__bfloat162float(residual[i]) + 0.25f * __bfloat162float(input[i]));
  }
  const auto d_input = upload(input);
  const auto d_residual = upload(residual);
  const auto d_weight = upload(weight);
  EXPECT_OK(rms_norm({d_input.data(), d_weight.data(), d_residual.data(), 0.25f, 0.0f, kEpsilon,
                      d_input.data(), rows, columns},
                     {}));
  const auto kept = download(d_residual);
  EXPECT_EQ(differing(kept.data(), sum.data(), rows * columns), 0);
  EXPECT_LE(relative_error(download(d_input), reference(sum, weight, 0.0f, columns)),
            kBf16Tolerance);
}

TEST(a_row_has_the_same_bits_alone_and_among_others) {
  const int rows = 64, columns = 4096;
  const auto d_input = upload(random_bf16(rows * columns, 2.0f, 7));
  const auto d_weight = upload(random_floats(columns, 1.0f, 0.3f, 8));
  const auto d_many = poisoned<Bf16>(rows * columns), d_one = poisoned<Bf16>(columns);
  const RmsNormArgs args{d_input.data(), d_weight.data(), nullptr, 1.0f,   0.0f,
                         kEpsilon,       d_many.data(),   rows,    columns};
  EXPECT_OK(rms_norm(args, {}));
  RmsNormArgs alone = args;
  alone.input += 41 * columns;
  alone.output = d_one.data();
  alone.rows = 1;
  EXPECT_OK(rms_norm(alone, {}));
  EXPECT_EQ(differing(download(d_many).data() + 41 * columns, download(d_one).data(), columns), 0);
}

TEST(refuses_widths_that_are_no_whole_vectors) {
  EXPECT(rms_norm({nullptr, nullptr, nullptr, 1.0f, 0.0f, 0.0f, nullptr, 1, 12}, {}).code() ==
         Code::kInvalidArgument);
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run_on_device(); }
