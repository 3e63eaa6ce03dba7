#pragma once

#include <cstdint>

#include "common/philox.h"

// Where keys and values lie in the paged cache. A page is one block, one KV head, keys or values:
// 64 tokens x head_dim bf16, contiguous, stored in the order in which the matrix instructions want
// it in shared memory, so that a plain bulk copy moves it.
namespace quire {

constexpr int kBlockTokens = 64;
// Dimensions that lie side by side in a page: 128 bytes, the span of the hardware's swizzle.
constexpr int kPageSpan = 64;

QUIRE_HOST_DEVICE constexpr int page_elements(int head_dim) { return kBlockTokens * head_dim; }

// Element of (token, dimension) in a page: sub-tiles [64 tokens, 64 dimensions] one after the
// other, the 16-byte pieces of each 128-byte line exchanged by the line's number.
QUIRE_HOST_DEVICE constexpr int page_element(int token, int dimension) {
  const int piece = (dimension % kPageSpan / 8) ^ (token % 8);
  return dimension / kPageSpan * (kBlockTokens * kPageSpan) + token * kPageSpan + piece * 8 +
         dimension % 8;
}

// One layer's cache: pages [block, K or V, KV head].
struct KvCache {
  void* data = nullptr;
  int32_t kv_head_count = 0;
  int32_t head_dim = 0;      // 64, 128 or 256
  int64_t block_stride = 0;  // elements from a block to the next, over all layers
};

// First element of a page.
QUIRE_HOST_DEVICE inline int64_t page_begin(const KvCache& cache, int32_t block, int32_t is_value,
                                            int32_t kv_head) {
  return block * cache.block_stride +
         (int64_t{is_value} * cache.kv_head_count + kv_head) * page_elements(cache.head_dim);
}

}  // namespace quire
