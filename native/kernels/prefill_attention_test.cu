#include "kernels/paged_testing.h"
#include "kernels/prefill_attention.h"

namespace quire {
namespace {

using namespace quire::testing;

struct Fixture {
  PagedCache cache;
  AttentionShape shape;
  std::vector<int32_t> lengths;      // of the rows, whole prompts
  std::vector<Bf16> query;           // [sum of lengths, heads, head_dim]
  std::vector<int32_t> first_query;  // of each row
  DeviceBuffer<Bf16> pages;
  DeviceBuffer<int32_t> table;

  Fixture(std::vector<int32_t> prompt_lengths, int kv_heads, int head_dim, const AttentionShape& of)
      : shape(of), lengths(std::move(prompt_lengths)) {
    int total = 0;
    for (const int32_t length : lengths) {
      first_query.push_back(total);
      total += length;
    }
    cache = random_cache(static_cast<int>(lengths.size()),
                         *std::max_element(lengths.begin(), lengths.end()), kv_heads, head_dim, 51);
    query = random_bf16(int64_t{total} * row_size(), 1.0f, 52);
    pages = upload(cache.pages);
    table = upload(cache.table);
  }

  int row_size() const { return shape.heads * cache.head_dim; }

  struct Piece {
    int32_t row, start, count;
  };

  // One step over these pieces of prompts: [tokens, heads * head_dim] in their order.
  std::vector<Bf16> run(const std::vector<Piece>& pieces) const {
    std::vector<PrefillChunk> chunks;
    std::vector<PrefillTile> tiles;
    std::vector<Bf16> chosen;
    int32_t tokens = 0;
    for (const Piece& piece : pieces) {
      chunks.push_back({piece.row, tokens, piece.start, piece.count});
      const auto begin = query.begin() + int64_t{first_query[piece.row] + piece.start} * row_size();
      chosen.insert(chosen.end(), begin, begin + int64_t{piece.count} * row_size());
      tokens += piece.count;
    }
    plan_prefill(chunks, shape.heads / cache.kv_heads, shape.window, &tiles);
    const auto d_query = upload(chosen);
    const auto d_tiles = upload(tiles);
    const auto output = poisoned<Bf16>(int64_t{tokens} * row_size());
    PrefillAttentionArgs args;
    args.query = d_query.data();
    args.query_stride = row_size();
    args.output = output.data();
    args.cache = cache.on(pages);
    args.tiles = d_tiles.data();
    args.block_tables = table.data();
    args.tile_count = static_cast<int32_t>(tiles.size());
    args.blocks_per_row = cache.blocks_per_row;
    args.head_count = shape.heads;
    args.window = shape.window;
    args.scale = static_cast<float>(shape.scale);
    args.softcap = static_cast<float>(shape.softcap);
    EXPECT_OK(prefill_attention(args, {}));
    return download(output);
  }

  void check(const std::vector<Piece>& pieces) const {
    const auto output = run(pieces);
    std::vector<double> expected;
    for (const Piece& piece : pieces) {
      for (int t = piece.start; t < piece.start + piece.count; ++t) {
        const auto one = attend(cache, shape, piece.row, t,
                                &query[int64_t{first_query[piece.row] + t} * row_size()]);
        expected.insert(expected.end(), one.begin(), one.end());
      }
    }
    EXPECT_LE(relative_error(output, expected), kAttentionTolerance);
  }
};

TEST(agrees_with_float64_at_every_head_size_and_group) {
  Fixture({1, 150, 260}, 2, 128, {8, 0, 0.088, 0.0}).check({{0, 0, 1}, {1, 0, 150}, {2, 130, 130}});
  Fixture({70, 131}, 3, 64, {9, 0, 0.125, 0.0}).check({{1, 5, 126}, {0, 0, 70}});
  Fixture({40, 200}, 1, 256, {5, 0, 0.0625, 0.0}).check({{0, 0, 40}, {1, 64, 100}});
  Fixture({100}, 1, 128, {1, 0, 0.088, 0.0}).check({{0, 0, 100}});
}

TEST(sees_only_the_window_and_caps_scores) {
  Fixture({300}, 2, 128, {8, 100, 0.088, 0.0}).check({{0, 0, 300}});
  Fixture({300}, 2, 64, {4, 64, 0.125, 0.0}).check({{0, 170, 130}});
  Fixture({200}, 2, 128, {8, 0, 0.088, 2.0}).check({{0, 0, 200}});
}

TEST(a_token_has_the_same_bits_however_the_prompt_was_cut) {
  const Fixture fixture({700, 333}, 2, 128, {8, 0, 0.088, 0.0});
  const int row_size = fixture.row_size();
  const auto whole = fixture.run({{0, 0, 700}});
  const auto mixed = fixture.run({{1, 0, 333}, {0, 0, 700}});
  EXPECT_EQ(differing(&mixed[333 * row_size], whole.data(), int64_t{700} * row_size), 0);
  int32_t start = 0;
  for (const int32_t count : {1, 63, 100, 37, 499}) {
    const auto piece = fixture.run({{0, start, count}});
    EXPECT_EQ(differing(piece.data(), &whole[start * row_size], int64_t{count} * row_size), 0);
    start += count;
  }
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run_on_device(); }
