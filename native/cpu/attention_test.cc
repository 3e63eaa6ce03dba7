#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "cpu/tier_testing.h"

namespace quire::cpu {
namespace {

using namespace testing;

struct Case {
  int32_t head_dim;
  int32_t block_size;
  int32_t group_size;
  int32_t window;
  float softcap;
  Compute compute;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  int32_t group = 0;
  for (int32_t head_dim : {16, 40, 64, 80, 96, 128, 256}) {
    for (int32_t block_size : {16, 32, 64}) {
      for (Compute compute : {Compute::kFloat32, Compute::kBFloat16}) {
        for (int32_t window : {0, 5, 70}) {
          const float softcap = group % 3 == 0 ? 2.0f : 0.0f;
          all.push_back({head_dim, block_size, group % 8 + 1, window, softcap, compute});
          ++group;
        }
      }
    }
  }
  return all;
}

// The keys, values and queries of one sequence, the values of keys and queries already rounded to
// bfloat16 so that both computes see the same ones.
struct Sequence {
  Sequence(const KernelTable& table, const Case& c, int32_t length)
      : table(table),
        c(c),
        length(length),
        shape{c.block_size, c.head_dim, c.compute},
        block_bytes(table.page_bytes(shape)),
        keys(random_bfloat16(length * c.head_dim, 1)),
        values(random_bfloat16(length * c.head_dim, 2)),
        queries(random_bfloat16(length * query_row(), 3)) {
    const int32_t blocks = (length + c.block_size - 1) / c.block_size;
    table_of_blocks.resize(blocks);
    std::iota(table_of_blocks.begin(), table_of_blocks.end(), 1);
    std::shuffle(table_of_blocks.begin(), table_of_blocks.end(), std::mt19937(4));
    // Bytes of ones are NaN in either type: slots that nobody wrote must not matter. Block 0 is
    // never written.
    cache = buffer((blocks + 1) * block_bytes, 0xff);
    for (int32_t p = 0; p < length; ++p) {
      table.store_kv(shape, &keys[p * c.head_dim], &values[p * c.head_dim], p % c.block_size,
                     cache.get() + table_of_blocks[p / c.block_size] * block_bytes);
    }
  }

  int32_t query_row() const { return c.group_size * c.head_dim; }

  static std::vector<float> random_bfloat16(int64_t count, uint32_t seed) {
    std::vector<float> all = random_floats(count, seed);
    for (float& value : all) value = rounded_to_bfloat16(value);
    return all;
  }

  // Attention of the queries [start, start + count) in one call, [count, group_size, head_dim].
  std::vector<float> attend(int32_t start, int32_t count) const {
    std::vector<int32_t> blocks = table_of_blocks;
    blocks.resize((start + count + c.block_size - 1) / c.block_size);
    const int32_t first = c.window == 0 ? 0 : std::max(0, start - c.window + 1);
    // What lies before the window may have been given to somebody else.
    std::fill_n(blocks.begin(), first / c.block_size, 0);
    std::vector<float> output(static_cast<int64_t>(count) * (query_row() + 1), -1.0f);
    const Buffer scratch = buffer(table.attention_scratch_bytes(shape, c.group_size));
    AttentionArgs args;
    args.query = &queries[static_cast<int64_t>(start) * query_row()];
    args.query_stride = query_row();
    args.output = output.data();
    args.output_stride = query_row() + 1;
    args.cache = cache.get();
    args.block_stride = block_bytes;
    args.block_table = blocks.data();
    args.kv = shape;
    args.group_size = c.group_size;
    args.start = start;
    args.token_count = count;
    args.window = c.window;
    args.scale = scale();
    args.softcap = c.softcap;
    args.scratch = scratch.get();
    table.attention(args);
    std::vector<float> dense;
    for (int32_t t = 0; t < count; ++t) {
      const auto row = output.begin() + static_cast<int64_t>(t) * (query_row() + 1);
      dense.insert(dense.end(), row, row + query_row());
      EXPECT_EQ(row[query_row()], -1.0f);
    }
    return dense;
  }

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(c.head_dim)); }

  // One query head in float64, without tricks.
  std::vector<double> exact(int32_t position, int32_t head) const {
    const int32_t first = c.window == 0 ? 0 : std::max(0, position - c.window + 1);
    const float* query = &queries[static_cast<int64_t>(position) * query_row() + head * c.head_dim];
    std::vector<double> scores;
    for (int32_t k = first; k <= position; ++k) {
      double dot = 0;
      for (int32_t d = 0; d < c.head_dim; ++d) {
        dot += static_cast<double>(query[d]) * keys[k * c.head_dim + d];
      }
      dot *= scale();
      scores.push_back(c.softcap == 0 ? dot : c.softcap * std::tanh(dot / c.softcap));
    }
    const double maximum = *std::max_element(scores.begin(), scores.end());
    double sum = 0;
    std::vector<double> output(c.head_dim);
    for (int32_t k = first; k <= position; ++k) {
      const double weight = std::exp(scores[k - first] - maximum);
      sum += weight;
      for (int32_t d = 0; d < c.head_dim; ++d) output[d] += weight * values[k * c.head_dim + d];
    }
    for (double& value : output) value /= sum;
    return output;
  }

  const KernelTable& table;
  const Case c;
  const int32_t length;
  const KvShape shape;
  const int64_t block_bytes;
  const std::vector<float> keys, values, queries;
  std::vector<int32_t> table_of_blocks;
  Buffer cache;
};

TEST(attention_is_the_causal_softmax_over_the_window) {
  for_each_tier([](const KernelTable& table) {
    for (const Case& c : cases()) {
      const Sequence sequence(table, c, 150);
      // float32 softmax; bfloat16 rounds the softmax weights to 8 bits too.
      const double bound = c.compute == Compute::kFloat32 ? 1e-5 : 5e-3;
      for (int32_t position : {0, 1, 15, 16, 63, 64, 100, 149}) {
        const std::vector<float> output = sequence.attend(position, 1);
        for (int32_t g = 0; g < c.group_size; ++g) {
          const std::vector<float> head(output.begin() + g * c.head_dim,
                                        output.begin() + (g + 1) * c.head_dim);
          EXPECT_LE(relative_error(head, sequence.exact(position, g)), bound);
        }
      }
    }
  });
}

TEST(a_query_gets_the_same_bits_alone_and_in_any_chunk) {
  for_each_tier([](const KernelTable& table) {
    constexpr int32_t kLength = 150;
    for (const Case& c : cases()) {
      const Sequence sequence(table, c, kLength);
      std::vector<float> alone;
      for (int32_t position = 0; position < kLength; ++position) {
        const std::vector<float> output = sequence.attend(position, 1);
        alone.insert(alone.end(), output.begin(), output.end());
      }
      for (int32_t chunk : {2, 3, 17, 64, 100, kLength}) {
        for (int32_t start = 0; start < kLength; start += chunk) {
          const int32_t count = std::min(chunk, kLength - start);
          const std::vector<float> output = sequence.attend(start, count);
          EXPECT(same_bits(output.data(), &alone[start * sequence.query_row()],
                           static_cast<int64_t>(count) * sequence.query_row()));
        }
      }
    }
  });
}

TEST(a_query_head_gets_the_same_bits_in_any_group) {
  for_each_tier([](const KernelTable& table) {
    const Case many{64, 16, 8, 0, 0.0f, Compute::kBFloat16};
    const Sequence group(table, many, 130);
    Case one = many;
    one.group_size = 1;
    Sequence single(table, one, 130);
    const std::vector<float> expected = group.attend(129, 1);
    for (int32_t g = 0; g < many.group_size; ++g) {
      Sequence copy(table, one, 130);
      std::vector<float>& queries = const_cast<std::vector<float>&>(copy.queries);
      std::copy_n(&group.queries[129 * group.query_row() + g * 64], 64, &queries[129 * 64]);
      const std::vector<float> output = copy.attend(129, 1);
      EXPECT(same_bits(output.data(), &expected[g * 64], 64));
    }
  });
}

TEST(long_contexts_lose_no_precision) {
  for_each_tier([](const KernelTable& table) {
    for (Compute compute : {Compute::kFloat32, Compute::kBFloat16}) {
      const Case c{64, 16, 2, 0, 0.0f, compute};
      const Sequence sequence(table, c, 3000);
      std::vector<float> head = sequence.attend(2999, 1);
      head.resize(64);
      // The mean of 3000 random values is small beside them, so rounding weighs more.
      EXPECT_LE(relative_error(head, sequence.exact(2999, 0)),
                compute == Compute::kFloat32 ? 2e-5 : 1e-2);
    }
  });
}

TEST(no_queries_write_nothing) {
  for_each_tier([](const KernelTable& table) {
    const Sequence sequence(table, {64, 16, 2, 0, 0.0f, Compute::kBFloat16}, 20);
    EXPECT(sequence.attend(10, 0).empty());
  });
}

TEST(pages_are_whole_cache_lines) {
  for_each_tier([](const KernelTable& table) {
    for (const Case& c : cases()) {
      const KvShape shape{c.block_size, c.head_dim, c.compute};
      EXPECT_EQ(table.page_bytes(shape) % 64, 0);
      EXPECT_LE(2ll * c.block_size * c.head_dim * 2, table.page_bytes(shape));
    }
  });
}

}  // namespace
}  // namespace quire::cpu

int main() {
  quire::cpu::testing::print_tiers();
  return quire::testing::run();
}
