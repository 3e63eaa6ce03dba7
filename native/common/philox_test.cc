#include "common/philox.h"

#include <cmath>

#include "common/testing.h"

namespace quire {
namespace {

// Known answers of Random123 (Salmon et al., "Parallel Random Numbers", file kat_vectors).
void expect_words(const Philox4& got, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  EXPECT_EQ(got.words[0], a);
  EXPECT_EQ(got.words[1], b);
  EXPECT_EQ(got.words[2], c);
  EXPECT_EQ(got.words[3], d);
}

TEST(equals_the_published_known_answers) {
  expect_words(philox4x32_10({{0, 0, 0, 0}}, 0), 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8);
  expect_words(philox4x32_10({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, ~uint64_t{0}),
               0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd);
  expect_words(
      philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0x299f31d0a4093822),
      0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1);
}

TEST(draws_lie_inside_the_open_unit_interval_and_average_one_half) {
  double sum = 0.0;
  constexpr int kDraws = 100'000;
  for (uint32_t position = 0; position < kDraws; ++position) {
    const double draw = uniform_draw(7, position);
    EXPECT(draw > 0.0 && draw < 1.0);
    sum += draw;
  }
  // Five standard errors of a mean of uniforms.
  EXPECT_LE(std::abs(sum / kDraws - 0.5), 5 * 0.2887 / 316.2);
}

TEST(draws_depend_on_seed_and_position) {
  EXPECT(uniform_draw(1, 5) != uniform_draw(2, 5));
  EXPECT(uniform_draw(1, 5) != uniform_draw(1, 6));
  EXPECT_EQ(uniform_draw(1, 5), uniform_draw(1, 5));
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run(); }
