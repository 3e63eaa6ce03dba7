#include "kernels/decode_attention.h"
#include "kernels/paged_testing.h"

namespace quire {
namespace {

using namespace quire::testing;

struct Fixture {
  PagedCache cache;
  AttentionShape shape;
  std::vector<int32_t> lengths;
  std::vector<Bf16> query;
  DeviceBuffer<Bf16> pages, d_query;
  DeviceBuffer<int32_t> table, tickets;

  Fixture(std::vector<int32_t> row_lengths, int kv_heads, int head_dim, const AttentionShape& of)
      : shape(of), lengths(std::move(row_lengths)) {
    const int rows = static_cast<int>(lengths.size());
    const int longest = *std::max_element(lengths.begin(), lengths.end());
    cache = random_cache(rows, longest, kv_heads, head_dim, 11 + head_dim);
    query = random_bf16(int64_t{rows} * shape.heads * head_dim, 1.0f, 12);
    pages = upload(cache.pages);
    d_query = upload(query);
    table = upload(cache.table);
    tickets = zeros<int32_t>(decode_tickets(shape.heads, kv_heads, rows));
  }

  // Attention of some of the rows, in the order given.
  std::vector<Bf16> run(const std::vector<int32_t>& rows) const {
    const int count = static_cast<int>(rows.size());
    const int row_size = shape.heads * cache.head_dim;
    std::vector<Bf16> chosen;
    std::vector<int32_t> chosen_lengths, starts(count + 1);
    for (const int32_t row : rows) {
      chosen.insert(chosen.end(), query.begin() + row * row_size,
                    query.begin() + (row + 1) * row_size);
      chosen_lengths.push_back(lengths[row]);
    }
    plan_decode(chosen_lengths.data(), count, shape.window, starts.data());
    const auto d_chosen = upload(chosen);
    const auto d_lengths = upload(chosen_lengths), d_rows = upload(rows), d_starts = upload(starts);
    const auto partials = poisoned<float>(
        decode_partial_floats(shape.heads, cache.kv_heads, cache.head_dim, starts[count]));
    const auto output = poisoned<Bf16>(int64_t{count} * row_size);
    DecodeAttentionArgs args;
    args.query = d_chosen.data();
    args.query_stride = row_size;
    args.output = output.data();
    args.cache = cache.on(pages);
    args.lengths = d_lengths.data();
    args.block_rows = d_rows.data();
    args.block_tables = table.data();
    args.unit_starts = d_starts.data();
    args.rows = count;
    args.blocks_per_row = cache.blocks_per_row;
    args.head_count = shape.heads;
    args.window = shape.window;
    args.scale = static_cast<float>(shape.scale);
    args.softcap = static_cast<float>(shape.softcap);
    args.partials = partials.data();
    args.tickets = tickets.data();
    EXPECT_OK(decode_attention(args, {}));
    return download(output);
  }
};

std::vector<int32_t> all_rows(const Fixture& fixture) {
  std::vector<int32_t> rows;
  for (size_t i = 0; i < fixture.lengths.size(); ++i) rows.push_back(static_cast<int32_t>(i));
  return rows;
}

void check_against_float64(const Fixture& fixture) {
  const auto output = fixture.run(all_rows(fixture));
  std::vector<double> expected;
  const int row_size = fixture.shape.heads * fixture.cache.head_dim;
  for (size_t row = 0; row < fixture.lengths.size(); ++row) {
    const auto one = attend(fixture.cache, fixture.shape, static_cast<int>(row),
                            fixture.lengths[row] - 1, &fixture.query[row * row_size]);
    expected.insert(expected.end(), one.begin(), one.end());
  }
  EXPECT_LE(relative_error(output, expected), kAttentionTolerance);
}

TEST(agrees_with_float64_at_every_head_size_and_group) {
  const std::vector<int32_t> lengths = {1, 63, 64, 65, 511, 512, 513, 1300};
  check_against_float64(Fixture(lengths, 2, 128, {8, 0, 0.088, 0.0}));
  check_against_float64(Fixture(lengths, 3, 64, {9, 0, 0.125, 0.0}));
  check_against_float64(Fixture(lengths, 1, 256, {5, 0, 0.0625, 0.0}));
  check_against_float64(Fixture(lengths, 1, 128, {20, 0, 0.088, 0.0}));
}

TEST(sees_only_the_window_and_caps_scores) {
  const std::vector<int32_t> lengths = {1, 100, 600, 1100, 1300};
  check_against_float64(Fixture(lengths, 2, 128, {8, 100, 0.088, 0.0}));
  check_against_float64(Fixture(lengths, 2, 64, {4, 513, 0.125, 0.0}));
  check_against_float64(Fixture(lengths, 2, 128, {8, 0, 0.088, 2.0}));
}

TEST(a_row_has_the_same_bits_in_any_batch) {
  std::vector<int32_t> lengths;
  for (int i = 0; i < 96; ++i) lengths.push_back(1 + i * 37 % 3000);
  const Fixture fixture(lengths, 2, 128, {8, 0, 0.088, 0.0});
  const int row_size = 8 * 128;
  const auto together = fixture.run(all_rows(fixture));
  for (const int32_t row : {0, 17, 81, 95}) {
    const auto alone = fixture.run({row});
    EXPECT_EQ(differing(alone.data(), &together[row * row_size], row_size), 0);
  }
  std::vector<int32_t> backwards = all_rows(fixture);
  std::reverse(backwards.begin(), backwards.end());
  const auto reversed = fixture.run(backwards);
  for (int row = 0; row < 96; ++row) {
    EXPECT_EQ(differing(&reversed[(95 - row) * row_size], &together[row * row_size], row_size), 0);
  }
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run_on_device(); }
