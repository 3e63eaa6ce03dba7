#pragma once

#include "cpu/tiers/packing.h"

// Linear layers of float32 and bfloat16 weights, pair of columns by pair. Internal linkage.
namespace quire::cpu {
namespace {

template <class Format, class Outputs>
void linear_pairs(const Matrix& matrix, const Tokens& tokens, int32_t token_count,
                  int32_t panel_begin, int32_t panel_end, const Outputs& outputs) {
  const int64_t bytes = panel_bytes(matrix.packing, matrix.columns);
  multiply<Format>(
      [&](int32_t panel) { return matrix.data + panel * bytes; }, panel_begin, panel_end,
      step_count_of(matrix.columns), tokens, token_count, [](int32_t, int32_t) { return zeros(); },
      [&](int32_t panel, int32_t token, Floats sum) { outputs.put(panel, token, sum); });
}

#if !defined(__AMX_BF16__)

constexpr LinearTile kLinearTile = {384 << 10, 384 << 10};

struct Bf16Activations {
  static int64_t bytes(int32_t columns) {
    return padded_columns(columns) / 2 * BFloat16Pairs::kTokenStepBytes;
  }
  static void prepare(const float* input, int32_t columns, std::byte* activation) {
    prepare_token<BFloat16Pairs>(input, columns, activation);
  }
};

template <class Outputs>
void linear_bf16(const Matrix& matrix, const Tokens& tokens, int32_t token_count,
                 int32_t panel_begin, int32_t panel_end, const Outputs& outputs) {
  linear_pairs<BFloat16Pairs>(matrix, tokens, token_count, panel_begin, panel_end, outputs);
}

#endif

}  // namespace
}  // namespace quire::cpu
