#pragma once

#include <algorithm>
#include <vector>

#include "kernels/cuda_testing.h"
#include "kernels/kv_layout.h"

// A paged cache of random keys and values, and attention over it in float64.
namespace quire::testing {

struct PagedCache {
  int kv_heads = 0, head_dim = 0, blocks_per_row = 0;
  std::vector<int32_t> table;  // [rows, blocks_per_row], a permutation of the blocks
  std::vector<Bf16> pages;

  KvCache on(const DeviceBuffer<Bf16>& data) const {
    return {data.data(), kv_heads, head_dim, int64_t{2} * kv_heads * page_elements(head_dim)};
  }

  int64_t element(int row, int token, int is_value, int kv_head, int d) const {
    const KvCache shape{nullptr, kv_heads, head_dim,
                        int64_t{2} * kv_heads * page_elements(head_dim)};
    const int32_t block = table[row * blocks_per_row + token / kBlockTokens];
    return page_begin(shape, block, is_value, kv_head) + page_element(token % kBlockTokens, d);
  }
};

inline PagedCache random_cache(int rows, int max_tokens, int kv_heads, int head_dim,
                               uint32_t seed) {
  PagedCache cache;
  cache.kv_heads = kv_heads;
  cache.head_dim = head_dim;
  cache.blocks_per_row = (max_tokens + kBlockTokens - 1) / kBlockTokens;
  cache.table.resize(rows * cache.blocks_per_row);
  for (size_t i = 0; i < cache.table.size(); ++i) cache.table[i] = static_cast<int32_t>(i);
  std::shuffle(cache.table.begin(), cache.table.end(), std::mt19937(seed));
  cache.pages =
      random_bf16(int64_t{2} * rows * cache.blocks_per_row * kv_heads * page_elements(head_dim),
                  1.0f, seed + 1);
  return cache;
}

struct AttentionShape {
  int heads = 0;
  int window = 0;
  double scale = 1.0;
  double softcap = 0.0;
};

// One query token at `position` over the row's cache: [heads, head_dim].
inline std::vector<double> attend(const PagedCache& cache, const AttentionShape& shape, int row,
                                  int position, const Bf16* query) {
  const int d_count = cache.head_dim, group = shape.heads / cache.kv_heads;
  const int first = shape.window > 0 ? std::max(0, position + 1 - shape.window) : 0;
  std::vector<double> output(shape.heads * d_count, 0.0);
  for (int head = 0; head < shape.heads; ++head) {
    std::vector<double> weights;
    double maximum = -INFINITY, sum = 0.0;
    for (int token = first; token <= position; ++token) {
      double score = 0.0;
      for (int d = 0; d < d_count; ++d) {
        score += to_double(query[head * d_count + d]) *
                 to_double(cache.pages[cache.element(row, token, 0, head / group, d)]);
      }
      score *= shape.scale;
      if (shape.softcap > 0.0) score = shape.softcap * std::tanh(score / shape.softcap);
      weights.push_back(score);
      maximum = std::max(maximum, score);
    }
    for (double& weight : weights) sum += weight = std::exp(weight - maximum);
    for (int token = first; token <= position; ++token) {
      for (int d = 0; d < d_count; ++d) {
        output[head * d_count + d] +=
            weights[token - first] / sum *
            to_double(cache.pages[cache.element(row, token, 1, head / group, d)]);
      }
    }
  }
  return output;
}

}  // namespace quire::testing
