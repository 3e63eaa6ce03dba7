#include "kernels/paged_testing.h"
#include "kernels/rope_store.h"

namespace quire {
namespace {

using namespace quire::testing;

struct Case {
  int head_dim, pairs;
  bool adjacent, normed;
};

constexpr int kHeads = 3, kKvHeads = 2, kTokens = 5, kRows = 2, kMaxTokens = 200;
constexpr float kEpsilon = 1e-6f, kOffset = 1.0f;

std::vector<double> turned(const std::vector<double>& x, const float* table, const Case& of) {
  std::vector<double> y = x;
  for (int i = 0; i < of.pairs; ++i) {
    const int a = of.adjacent ? 2 * i : i, b = of.adjacent ? 2 * i + 1 : i + of.pairs;
    y[a] = x[a] * table[i] - x[b] * table[of.pairs + i];
    y[b] = x[b] * table[i] + x[a] * table[of.pairs + i];
  }
  return y;
}

std::vector<double> normed(std::vector<double> x, const std::vector<float>& weight) {
  double squares = 0.0;
  for (const double value : x) squares += value * value;
  const double factor = 1.0 / std::sqrt(squares / x.size() + static_cast<double>(kEpsilon));
  for (size_t i = 0; i < x.size(); ++i) x[i] *= factor * (to_double(weight[i]) + kOffset);
  return x;
}

void check(const Case& of) {
  const int d = of.head_dim, heads = kHeads + 2 * kKvHeads;
  PagedCache cache = random_cache(kRows, kMaxTokens, kKvHeads, d, 21);
  const auto qkv = random_bf16(kTokens * heads * d, 1.0f, 22);
  const auto table = random_floats(kMaxTokens * 2 * std::max(of.pairs, 1), 0.0f, 1.0f, 23);
  const auto norm_weight = random_floats(d, 0.0f, 0.2f, 24);
  const std::vector<int32_t> positions = {0, 63, 64, -1, 199}, rows = {0, 0, 1, 1, 1};
  const auto d_qkv = upload(qkv), pages = upload(cache.pages);
  const auto d_table = upload(table), d_norm = upload(norm_weight);
  const auto d_positions = upload(positions), d_rows = upload(rows), blocks = upload(cache.table);
  RopeStoreKvArgs args;
  args.qkv = d_qkv.data();
  args.tokens = kTokens;
  args.head_count = kHeads;
  args.cache = cache.on(pages);
  args.rope_table = d_table.data();
  args.rope_pairs = of.pairs;
  args.adjacent = of.adjacent;
  args.positions = d_positions.data();
  args.block_rows = d_rows.data();
  args.block_tables = blocks.data();
  args.blocks_per_row = cache.blocks_per_row;
  args.query_norm = args.key_norm = of.normed ? d_norm.data() : nullptr;
  args.norm_offset = kOffset;
  args.norm_epsilon = kEpsilon;
  EXPECT_OK(rope_store_kv(args, {}));
  const auto after = download(d_qkv), stored = download(pages);
  std::vector<Bf16> got;
  std::vector<double> expected;
  std::vector<Bf16> untouched = cache.pages;
  for (int t = 0; t < kTokens; ++t) {
    for (int h = 0; h < heads; ++h) {
      std::vector<double> x;
      for (int i = 0; i < d; ++i) x.push_back(to_double(qkv[(t * heads + h) * d + i]));
      const bool is_value = h >= kHeads + kKvHeads, is_query = h < kHeads;
      if (!is_value && of.normed && positions[t] >= 0) x = normed(x, norm_weight);
      if (!is_value && positions[t] >= 0) x = turned(x, &table[positions[t] * 2 * of.pairs], of);
      for (int i = 0; i < d; ++i) {
        if (is_query || positions[t] < 0) {
          got.push_back(after[(t * heads + h) * d + i]);
        } else {
          const int64_t at =
              cache.element(rows[t], positions[t], is_value, (h - kHeads) % kKvHeads, i);
          got.push_back(stored[at]);
          untouched[at] = stored[at];
        }
        expected.push_back(x[i]);
      }
    }
  }
  EXPECT_LE(relative_error(got, expected), kBf16Tolerance);
  EXPECT_EQ(differing(untouched.data(), stored.data(), static_cast<int64_t>(stored.size())), 0);
}

TEST(turns_queries_and_keys_and_stores_keys_and_values) {
  for (const int head_dim : {64, 128, 256}) {
    check({head_dim, head_dim / 2, false, false});
    check({head_dim, head_dim / 2, true, true});
    check({head_dim, head_dim / 2, false, true});
    check({head_dim, 20, false, false});
    check({head_dim, 20, true, false});
  }
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run_on_device(); }
