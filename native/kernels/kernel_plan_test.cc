#include <algorithm>
#include <vector>

#include "common/testing.h"
#include "kernels/decode_plan.h"
#include "kernels/kv_layout.h"
#include "kernels/prefill_plan.h"
#include "kernels/skinny_plan.h"
#include "kernels/softmax.h"

// Plans and maps of the kernels: arithmetic that needs no device.
namespace quire {
namespace {

TEST(a_page_holds_each_element_once) {
  for (const int head_dim : {64, 128, 256}) {
    std::vector<int> seen(page_elements(head_dim), 0);
    for (int token = 0; token < kBlockTokens; ++token) {
      for (int d = 0; d < head_dim; ++d) ++seen[page_element(token, d)];
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), page_elements(head_dim));
  }
}

// ldmatrix reads 16 bytes of eight neighbouring tokens at once: one bank group each.
TEST(eight_tokens_of_one_piece_lie_in_eight_bank_groups) {
  for (int first = 0; first < kBlockTokens; first += 8) {
    for (int d = 0; d < 128; d += 8) {
      std::vector<int> groups(8, 0);
      for (int token = first; token < first + 8; ++token) {
        ++groups[page_element(token, d) * 2 / 16 % 8];
        EXPECT_EQ(page_element(token, d) % 8, 0);
        EXPECT_EQ(page_element(token, d + 7), page_element(token, d) + 7);
      }
      EXPECT_EQ(std::count(groups.begin(), groups.end(), 1), 8);
    }
  }
}

TEST(units_cover_the_visible_tokens_of_a_row) {
  for (const int window : {0, 1, 100, 512, 1000}) {
    for (int length = 1; length < 2100; length += 7) {
      const UnitRange range = unit_range(length, window);
      const int hidden = window > 0 ? std::max(0, length - window) : 0;
      EXPECT(range.first * kUnitTokens <= hidden && hidden < (range.first + 1) * kUnitTokens);
      EXPECT((range.end - 1) * kUnitTokens < length && length <= range.end * kUnitTokens);
    }
  }
  EXPECT_EQ(unit_range(0, 0).end, 0);
}

TEST(the_flat_order_meets_every_unit_once_from_any_start) {
  const std::vector<int32_t> lengths = {0, 1, 600, 0, 0, 1024, 1025, 3000, 0};
  const int32_t rows = static_cast<int32_t>(lengths.size()), head_units = 3;
  std::vector<int32_t> starts(rows + 1);
  plan_decode(lengths.data(), rows, 0, starts.data());
  const int32_t total = starts[rows] * head_units;
  std::vector<DecodeUnit> expected;
  for (int32_t row = 0; row < rows; ++row) {
    const int32_t count = (lengths[row] + kUnitTokens - 1) / kUnitTokens;
    for (int32_t head = 0; head < head_units; ++head) {
      for (int32_t i = 0; i < count; ++i) expected.push_back({row, head, i, count});
    }
  }
  EXPECT_EQ(static_cast<size_t>(total), expected.size());
  const auto same = [](const DecodeUnit& a, const DecodeUnit& b) {
    return a.row == b.row && a.head_unit == b.head_unit && a.index == b.index && a.count == b.count;
  };
  for (int32_t flat = 0; flat < total; ++flat) {
    const DecodeUnit unit = find_unit(starts.data(), rows, head_units, flat);
    EXPECT(same(unit, expected[flat]));
    if (flat + 1 < total)
      EXPECT(same(next_unit(starts.data(), head_units, unit), expected[flat + 1]));
  }
}

TEST(prefill_tiles_cover_every_token_once_and_fit) {
  const std::vector<PrefillChunk> chunks = {{4, 0, 1000, 1}, {2, 1, 0, 200}, {7, 201, 63, 65}};
  for (const int32_t group : {1, 3, 4, 7, 128}) {
    std::vector<PrefillTile> tiles;
    plan_prefill(chunks, group, 0, &tiles);
    std::vector<int> seen(266, 0);
    for (const PrefillTile& tile : tiles) {
      EXPECT(tile.count > 0 && tile.count * group <= kTileRows);
      for (int32_t t = 0; t < tile.count; ++t) {
        const int32_t token = tile.token + t;
        const PrefillChunk& chunk = chunks[token < 1 ? 0 : token < 201 ? 1 : 2];
        EXPECT_EQ(tile.block_row, chunk.block_row);
        EXPECT_EQ(tile.start + t, chunk.start + token - chunk.token);
        ++seen[token];
      }
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 266);
  }
}

TEST(prefill_tiles_come_in_order_of_their_work) {
  std::vector<PrefillTile> tiles;
  plan_prefill({{0, 0, 0, 500}, {1, 500, 5000, 3}}, 4, 0, &tiles);
  EXPECT_EQ(tiles.front().block_row, 1);
  for (size_t i = 1; i < tiles.size(); ++i) {
    EXPECT_LE(visible_blocks(tiles[i], 0), visible_blocks(tiles[i - 1], 0));
  }
  EXPECT_EQ(visible_blocks({0, 0, 0, 64}, 0), 1);
  EXPECT_EQ(visible_blocks({0, 0, 64, 1}, 0), 2);
  EXPECT_EQ(visible_blocks({0, 0, 200, 1}, 64), 2);
  EXPECT_EQ(visible_blocks({0, 0, 191, 1}, 64), 1);
}

TEST(a_join_weighs_both_pieces_and_ignores_an_empty_one) {
  const SoftmaxJoin both = join_softmax(3.0f, 5.0f);
  EXPECT_EQ(both.maximum, 5.0f);
  EXPECT_EQ(both.first, 0.25f);
  EXPECT_EQ(both.second, 1.0f);
  const SoftmaxJoin one = join_softmax(-INFINITY, 2.0f);
  EXPECT(one.maximum == 2.0f && one.first == 0.0f && one.second == 1.0f);
  const SoftmaxJoin none = join_softmax(-INFINITY, -INFINITY);
  EXPECT(none.first == 0.0f && none.second == 0.0f);
}

TEST(tiles_leave_few_multiprocessors_idle) {
  EXPECT_EQ(skinny_tile_rows(4096, 132), 32);
  EXPECT_EQ(skinny_tile_rows(6144, 132), 48);
  EXPECT_EQ(skinny_tile_rows(28672, 132), 32);
  EXPECT_EQ(skinny_tile_rows(128256, 132), 32);
}

TEST(gates_and_ups_interleave_without_gaps) {
  std::vector<int> seen(2 * 64, 0);
  for (int row = 0; row < 64; ++row) {
    ++seen[gated_row(row, false)];
    ++seen[gated_row(row, true)];
    EXPECT_EQ(gated_row(row, true), gated_row(row, false) + 8);
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 128);
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run(); }
