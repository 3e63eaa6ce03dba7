#pragma once

#include <cstdint>

namespace quire {

// How a checkpoint stores the numbers of a tensor. Byte layouts of the blocks: weight_blocks.h.
enum class WeightType : uint8_t {
  kF32,
  kF16,
  kBF16,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ4_K,
  kQ5_K,
  kQ6_K,
};

struct BlockShape {
  int32_t elements;
  int32_t bytes;
};

constexpr BlockShape block_shape(WeightType type) {
  switch (type) {
    case WeightType::kF32: return {1, 4};
    case WeightType::kF16: return {1, 2};
    case WeightType::kBF16: return {1, 2};
    case WeightType::kQ4_0: return {32, 18};
    case WeightType::kQ4_1: return {32, 20};
    case WeightType::kQ5_0: return {32, 22};
    case WeightType::kQ5_1: return {32, 24};
    case WeightType::kQ8_0: return {32, 34};
    case WeightType::kQ4_K: return {256, 144};
    case WeightType::kQ5_K: return {256, 176};
    case WeightType::kQ6_K: return {256, 210};
  }
  return {0, 0};
}

// Bytes of one row of `columns` elements, or 0 when a row is not a whole number of blocks.
constexpr int64_t row_bytes(WeightType type, int64_t columns) {
  const BlockShape shape = block_shape(type);
  return columns % shape.elements == 0 ? columns / shape.elements * shape.bytes : 0;
}

}  // namespace quire
