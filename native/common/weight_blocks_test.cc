#include "common/weight_blocks.h"

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "common/testing.h"

namespace quire {
namespace {

const std::map<std::string, WeightType> kTypes = {
    {"F16", WeightType::kF16},   {"BF16", WeightType::kBF16}, {"Q4_0", WeightType::kQ4_0},
    {"Q4_1", WeightType::kQ4_1}, {"Q5_0", WeightType::kQ5_0}, {"Q5_1", WeightType::kQ5_1},
    {"Q8_0", WeightType::kQ8_0}, {"Q4_K", WeightType::kQ4_K}, {"Q5_K", WeightType::kQ5_K},
    {"Q6_K", WeightType::kQ6_K},
};

std::vector<std::byte> bytes_of(const std::string& hex) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(blocks_of_every_type_dequantize_bit_for_bit) {
  std::ifstream file(std::string(QUIRE_CPU_FIXTURES) + "/weight_blocks.txt");
  std::map<std::string, int> blocks;
  for (std::string line; std::getline(file, line);) {
    if (line[0] == '#') continue;
    std::istringstream words(line);
    std::string type, origin, source_hex, value_hex;
    words >> type >> origin >> source_hex >> value_hex;
    const std::vector<std::byte> source = bytes_of(source_hex), expected = bytes_of(value_hex);
    std::vector<float> values(expected.size() / sizeof(float));

    dequantize(kTypes.at(type), source.data(), static_cast<int64_t>(values.size()), values.data());

    if (std::memcmp(values.data(), expected.data(), expected.size()) != 0) {
      testing::fail(__FILE__, __LINE__, type + " block of " + origin + " differs");
    }
    ++blocks[type];
  }
  for (const auto& [name, type] : kTypes) EXPECT_LE(1, blocks[name]);
}

TEST(float32_is_copied) {
  const float source[3] = {1.5f, -0.0f, std::numeric_limits<float>::infinity()};
  float output[3] = {};
  dequantize(WeightType::kF32, reinterpret_cast<const std::byte*>(source), 3, output);
  EXPECT_EQ(std::memcmp(source, output, sizeof(source)), 0);
}

// Every finite half is sign * mantissa * 2^exponent, which double holds exactly.
TEST(every_half_converts_exactly) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = float_from_half(static_cast<uint16_t>(bits));
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31) {
      EXPECT(mantissa == 0 ? std::isinf(value) && (value < 0) == (sign < 0) : std::isnan(value));
      continue;
    }
    const double expected =
        exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
    EXPECT_EQ(static_cast<double>(value), sign * expected);
    EXPECT_EQ(std::signbit(value), sign < 0);
  }
}

TEST(bfloat16_rounds_to_nearest_even_and_keeps_nan) {
  EXPECT_EQ(bfloat16_from_float(1.0f), 0x3f80);
  EXPECT_EQ(bfloat16_from_float(1.0f + 0x1p-8f), 0x3f80);            // half way, down to even
  EXPECT_EQ(bfloat16_from_float(1.0f + 0x1p-7f + 0x1p-8f), 0x3f82);  // half way, up to even
  EXPECT_EQ(bfloat16_from_float(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);
  EXPECT_EQ(bfloat16_from_float(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(bfloat16_from_float(-std::numeric_limits<float>::infinity()), 0xff80);
  EXPECT(std::isnan(
      float_from_bfloat16(bfloat16_from_float(std::numeric_limits<float>::signaling_NaN()))));
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {
    EXPECT_EQ(bfloat16_from_float(float_from_bfloat16(static_cast<uint16_t>(bits))), bits);
  }
}

TEST(rows_that_are_not_whole_blocks_have_no_size) {
  EXPECT_EQ(row_bytes(WeightType::kQ4_1, 576), 360);
  EXPECT_EQ(row_bytes(WeightType::kQ4_1, 100), 0);
  EXPECT_EQ(row_bytes(WeightType::kQ6_K, 256), 210);
  EXPECT_EQ(row_bytes(WeightType::kQ6_K, 640), 0);
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run(); }
