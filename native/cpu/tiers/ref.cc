#include <cmath>
#include <cstring>
#include <limits>

#include "common/weight_blocks.h"
#include "cpu/tiers/tables.h"

// The scalar tier: runs anywhere and is what the others are compared with. Weights, activations and
// the KV cache are float32 whatever is asked for; sums are float64 in the order of the columns, and
// are rounded once.
namespace quire::cpu {
namespace {

constexpr int64_t kAlignment = 64;

int64_t align(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

int32_t packing_for(WeightType, Compute, int32_t, int32_t) { return kFloat32Panels; }

int64_t panel_floats(int32_t columns) {
  return (static_cast<int64_t>(columns) + 1) / 2 * 2 * kPanelRows;
}

int64_t packed_bytes(int32_t, int32_t rows, int32_t columns) {
  return panel_count(rows) * panel_floats(columns) * static_cast<int64_t>(sizeof(float));
}

void pack(int32_t, WeightType type, const std::byte* source, int32_t row_begin, int32_t row_count,
          int32_t columns, std::byte* packed) {
  const int64_t source_row = row_bytes(type, columns);
  const int64_t element_count = source_row == 0 ? 0 : columns;
  auto* panels = reinterpret_cast<float*>(packed);
  const int32_t row_end = (row_begin + row_count + kPanelRows - 1) / kPanelRows * kPanelRows;
  for (int32_t row = row_begin; row < row_end; ++row) {
    float* panel = panels + row / kPanelRows * panel_floats(columns);
    for (int32_t k = 0; k < (columns + 1) / 2 * 2; ++k)
      panel[k * kPanelRows + row % kPanelRows] = 0.0f;
    if (row >= row_begin + row_count) continue;
    const int32_t step = block_shape(type).elements;
    float block[256];
    const std::byte* from = source + (row - row_begin) * source_row;
    for (int32_t k = 0; k < element_count; k += step, from += block_shape(type).bytes) {
      dequantize(type, from, step, block);
      for (int32_t i = 0; i < step; ++i) {
        panel[(k + i) * kPanelRows + row % kPanelRows] = block[i];
      }
    }
  }
}

const float* panel_of(const Matrix& matrix, int32_t panel) {
  return reinterpret_cast<const float*>(matrix.data) + panel * panel_floats(matrix.columns);
}

void unpack_row(const Matrix& matrix, int32_t row, float* output) {
  const float* panel = panel_of(matrix, row / kPanelRows);
  for (int32_t k = 0; k < matrix.columns; ++k) {
    output[k] = panel[k * kPanelRows + row % kPanelRows];
  }
}

int64_t activation_bytes(int32_t, int32_t columns) {
  return align(static_cast<int64_t>(columns) * static_cast<int64_t>(sizeof(float)));
}

void prepare_activation(int32_t, const float* input, int32_t columns, std::byte* activation) {
  std::memcpy(activation, input, columns * sizeof(float));
}

void linear(const Matrix& matrix, const std::byte* activations, int32_t token_count,
            int32_t panel_begin, int32_t panel_end, float* output, int64_t output_stride) {
  const int64_t stride = activation_bytes(matrix.packing, matrix.columns);
  for (int32_t t = 0; t < token_count; ++t) {
    const auto* input = reinterpret_cast<const float*>(activations + t * stride);
    for (int32_t p = panel_begin; p < panel_end; ++p) {
      const float* panel = panel_of(matrix, p);
      double sums[kPanelRows] = {};
      for (int32_t k = 0; k < matrix.columns; ++k) {
        for (int32_t r = 0; r < kPanelRows; ++r) {
          sums[r] += static_cast<double>(input[k]) * panel[k * kPanelRows + r];
        }
      }
      for (int32_t r = 0; r < kPanelRows && p * kPanelRows + r < matrix.rows; ++r) {
        output[t * output_stride + p * kPanelRows + r] = static_cast<float>(sums[r]);
      }
    }
  }
}

// A page is [key, value][slot][head_dim] float.
int64_t page_bytes(const KvShape& shape) {
  return align(2ll * shape.block_size * shape.head_dim * static_cast<int64_t>(sizeof(float)));
}

void store_kv(const KvShape& shape, const float* key, const float* value, int32_t slot,
              std::byte* page) {
  auto* keys = reinterpret_cast<float*>(page);
  float* values = keys + static_cast<int64_t>(shape.block_size) * shape.head_dim;
  std::memcpy(keys + static_cast<int64_t>(slot) * shape.head_dim, key,
              shape.head_dim * sizeof(float));
  std::memcpy(values + static_cast<int64_t>(slot) * shape.head_dim, value,
              shape.head_dim * sizeof(float));
}

int64_t attention_scratch_bytes(const KvShape& shape, int32_t) {
  return align(shape.head_dim * static_cast<int64_t>(sizeof(double)));
}

double capped(double score, double softcap) {
  return softcap == 0 ? score : softcap * std::tanh(score / softcap);
}

// One query head at one position: the online softmax, key by key.
void attend(const AttentionArgs& args, int32_t position, const float* query, float* output) {
  const int32_t head_dim = args.kv.head_dim, block_size = args.kv.block_size;
  auto* sums = reinterpret_cast<double*>(args.scratch);
  for (int32_t d = 0; d < head_dim; ++d) sums[d] = 0;
  double maximum = -std::numeric_limits<double>::infinity(), denominator = 0;
  const int32_t first = args.window > 0 && position >= args.window ? position - args.window + 1 : 0;
  for (int32_t k = first; k <= position; ++k) {
    const std::byte* page = args.cache + args.block_table[k / block_size] * args.block_stride;
    const float* key =
        reinterpret_cast<const float*>(page) + static_cast<int64_t>(k % block_size) * head_dim;
    const float* value = key + static_cast<int64_t>(block_size) * head_dim;
    double dot = 0;
    for (int32_t d = 0; d < head_dim; ++d) dot += static_cast<double>(query[d]) * key[d];
    const double score = capped(dot * args.scale, args.softcap);
    if (score > maximum) {
      const double rescale = std::exp(maximum - score);
      for (int32_t d = 0; d < head_dim; ++d) sums[d] *= rescale;
      denominator *= rescale;
      maximum = score;
    }
    const double weight = std::exp(score - maximum);
    denominator += weight;
    for (int32_t d = 0; d < head_dim; ++d) sums[d] += weight * value[d];
  }
  for (int32_t d = 0; d < head_dim; ++d) output[d] = static_cast<float>(sums[d] / denominator);
}

void attention(const AttentionArgs& args) {
  for (int32_t t = 0; t < args.token_count; ++t) {
    for (int32_t g = 0; g < args.group_size; ++g) {
      attend(args, args.start + t, args.query + t * args.query_stride + g * args.kv.head_dim,
             args.output + t * args.output_stride + g * args.kv.head_dim);
    }
  }
}

void rms_norm(const float* input, const float* weight, float offset, float epsilon, int32_t n,
              float* output) {
  double squares = 0;
  for (int32_t i = 0; i < n; ++i) squares += static_cast<double>(input[i]) * input[i];
  const double scale = 1 / std::sqrt(squares / n + epsilon);
  for (int32_t i = 0; i < n; ++i) {
    output[i] = static_cast<float>(input[i] * scale * (static_cast<double>(weight[i]) + offset));
  }
}

void silu_mul(const float* gate, const float* up, int32_t n, float* output) {
  for (int32_t i = 0; i < n; ++i) {
    output[i] = static_cast<float>(gate[i] / (1 + std::exp(-static_cast<double>(gate[i]))) * up[i]);
  }
}

void gelu_mul(const float* gate, const float* up, int32_t n, float* output) {
  constexpr double kSqrtTwoOverPi = 0.79788456080286535588;
  for (int32_t i = 0; i < n; ++i) {
    const double x = gate[i];
    const double inner = kSqrtTwoOverPi * (x + 0.044715 * x * x * x);
    output[i] = static_cast<float>(0.5 * x * (1 + std::tanh(inner)) * up[i]);
  }
}

void add_scaled(const float* input, float scale, int32_t n, float* accumulator) {
  for (int32_t i = 0; i < n; ++i) accumulator[i] += scale * input[i];
}

void scale_softcap(float scale, float softcap, int32_t n, float* logits) {
  for (int32_t i = 0; i < n; ++i) {
    logits[i] = static_cast<float>(capped(static_cast<double>(logits[i]) * scale, softcap));
  }
}

void max_and_logsumexp(const float* x, int32_t n, int32_t* argmax, float* logsumexp) {
  int32_t best = 0;
  for (int32_t i = 1; i < n; ++i) {
    if (x[i] > x[best]) best = i;
  }
  double sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(x[i]) - x[best]);
  *argmax = best;
  *logsumexp = static_cast<float>(x[best] + std::log(sum));
}

}  // namespace

const KernelTable kRefTable = {
    "ref",
    {384 << 10, 384 << 10},
    packing_for,
    packed_bytes,
    pack,
    unpack_row,
    activation_bytes,
    prepare_activation,
    linear,
    page_bytes,
    store_kv,
    attention_scratch_bytes,
    attention,
    rms_norm,
    silu_mul,
    gelu_mul,
    add_scaled,
    scale_softcap,
    max_and_logsumexp,
};

}  // namespace quire::cpu
