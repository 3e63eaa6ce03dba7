#pragma once

#include "cpu/tiers/linear_pairs.h"
#include "cpu/tiers/packing.h"
#if defined(__AMX_BF16__)
#include "cpu/tiers/linear_tiles.h"
#endif

// Linear layers of the SIMD tiers over every packing. Internal linkage.
namespace quire::cpu {
namespace {

// Rows of activations a multiple of 4096 bytes apart would share the sets of a 48 KB cache.
int64_t spread(int64_t bytes) {
  const int64_t aligned = (bytes + 63) / 64 * 64;
  return aligned % 4096 == 0 ? aligned + 64 : aligned;
}

int64_t activation_bytes(int32_t packing, int32_t columns) {
  switch (packing) {
    case kInt4Blocks:
    case kInt8Blocks:
      return spread(columns / kBlockColumns * static_cast<int64_t>(sizeof(ActivationBlock)));
    case kBf16Panels: return spread(Bf16Activations::bytes(columns));
    default: return spread(padded_columns(columns) / 2 * Float32Pairs::kTokenStepBytes);
  }
}

void prepare_activation(int32_t packing, const float* input, int32_t columns,
                        std::byte* activation) {
  switch (packing) {
    case kInt4Blocks:
    case kInt8Blocks:
      for (int32_t b = 0; b < columns / kBlockColumns; ++b) {
        quantize_block(input + b * kBlockColumns,
                       reinterpret_cast<ActivationBlock*>(activation) + b);
      }
      break;
    case kBf16Panels: Bf16Activations::prepare(input, columns, activation); break;
    default: prepare_token<Float32Pairs>(input, columns, activation);
  }
}

// Where outputs go: the rows of a panel that the matrix has.
struct Outputs {
  float* data;
  int64_t stride;
  int32_t rows;

  Floats get(int32_t panel, int32_t token) const {
    const float* from = data + token * stride + static_cast<int64_t>(panel) * kPanelRows;
    const int32_t left = rows - panel * kPanelRows;
    return left >= kPanelRows ? load(from) : load_first(from, left, 0.0f);
  }

  void put(int32_t panel, int32_t token, Floats sum) const {
    float* to = data + token * stride + static_cast<int64_t>(panel) * kPanelRows;
    const int32_t left = rows - panel * kPanelRows;
    if (left >= kPanelRows) {
      store(to, sum);
    } else {
      store_first(to, left, sum);
    }
  }
};

template <class Format>
void linear_blocks(const Matrix& matrix, const Tokens& tokens, int32_t token_count,
                   int32_t panel_begin, int32_t panel_end, const Outputs& outputs) {
  const int64_t bytes = panel_bytes(matrix.packing, matrix.columns);
  int32_t panel = panel_begin;
  if (token_count == 1) {
    for (; panel + kLoneTokenPanels <= panel_end; panel += kLoneTokenPanels) {
      multiply_block_tile<Format, kLoneTokenPanels, 1>(
          matrix.data + panel * bytes, bytes, matrix.columns / kBlockColumns, tokens.data,
          tokens.stride, [&](int p, int, Floats sum) { outputs.put(panel + p, 0, sum); });
    }
  }
  for (; panel < panel_end; ++panel) {
    multiply_blocks<Format>(matrix.data + panel * bytes, matrix.columns / kBlockColumns,
                            tokens.data, tokens.stride, token_count,
                            [&](int32_t token, Floats sum) { outputs.put(panel, token, sum); });
  }
}

void linear(const Matrix& matrix, const std::byte* activations, int32_t token_count,
            int32_t panel_begin, int32_t panel_end, float* output, int64_t output_stride) {
  const Tokens tokens{activations, activation_bytes(matrix.packing, matrix.columns)};
  const Outputs outputs{output, output_stride, matrix.rows};
  switch (matrix.packing) {
    case kInt4Blocks:
      linear_blocks<Int4Blocks>(matrix, tokens, token_count, panel_begin, panel_end, outputs);
      break;
    case kInt8Blocks:
      linear_blocks<Int8Blocks>(matrix, tokens, token_count, panel_begin, panel_end, outputs);
      break;
    case kBf16Panels:
      linear_bf16(matrix, tokens, token_count, panel_begin, panel_end, outputs);
      break;
    default:
      linear_pairs<Float32Pairs>(matrix, tokens, token_count, panel_begin, panel_end, outputs);
  }
}

}  // namespace
}  // namespace quire::cpu
