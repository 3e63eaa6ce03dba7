#include "models/check_model.h"

#include <cmath>
#include <string>

namespace quire {
namespace {

// Sizes above this cannot be a model's and could overflow a product of two.
constexpr int32_t kMaxSize = 1 << 24;
constexpr int32_t kMaxHeadDim = 512;

std::string shape_text(int64_t rows, int64_t columns) {
  return "[" + std::to_string(rows) + ", " + std::to_string(columns) + "]";
}

Status check_slice(const Model& model, const WeightSlice& slice, int32_t rows, int32_t columns) {
  if (slice.rows != rows || slice.columns != columns) {
    return {Code::kInvalidArgument, slice.name + " is " + shape_text(slice.rows, slice.columns) +
                                        ", the model needs " + shape_text(rows, columns)};
  }
  const int64_t bytes = row_bytes(slice.type, columns) * rows;
  if (bytes == 0 || slice.byte_length != bytes) {
    return {Code::kInvalidArgument, slice.name + " has " + std::to_string(slice.byte_length) +
                                        " bytes, its shape and type need " + std::to_string(bytes)};
  }
  if (slice.file < 0 || slice.file >= static_cast<int32_t>(model.files.size()) ||
      slice.offset < 0) {
    return {Code::kInvalidArgument, slice.name + " lies at offset " + std::to_string(slice.offset) +
                                        " of file " + std::to_string(slice.file) + " of " +
                                        std::to_string(model.files.size())};
  }
  return {};
}

Status check_vector(const Model& model, const std::optional<WeightSlice>& slice, int32_t columns) {
  return slice ? check_slice(model, *slice, 1, columns) : Status();
}

Status check_size(const char* name, int64_t value, int64_t max) {
  if (value >= 1 && value <= max) return {};
  return {Code::kInvalidArgument, std::string(name) + " is " + std::to_string(value) +
                                      ", allowed are 1 to " + std::to_string(max)};
}

Status check_sizes(const ModelSpec& spec) {
  QUIRE_TRY(check_size("vocabSize", spec.vocab_size, kMaxSize));
  QUIRE_TRY(check_size("hiddenSize", spec.hidden_size, kMaxSize));
  QUIRE_TRY(check_size("ffnSize", spec.ffn_size, kMaxSize));
  QUIRE_TRY(check_size("headDim", spec.head_dim, kMaxHeadDim));
  QUIRE_TRY(check_size("headCount", spec.head_count, kMaxSize / kMaxHeadDim));
  QUIRE_TRY(check_size("kvHeadCount", spec.kv_head_count, spec.head_count));
  if (spec.head_count % spec.kv_head_count != 0) {
    return {Code::kInvalidArgument, std::to_string(spec.kv_head_count) +
                                        " KV heads do not divide " +
                                        std::to_string(spec.head_count) + " heads"};
  }
  QUIRE_TRY(check_size("layers", static_cast<int64_t>(spec.layers.size()), 1024));
  return check_size("ropes", static_cast<int64_t>(spec.ropes.size()), 16);
}

Status check_ropes(const ModelSpec& spec) {
  for (const Rope& rope : spec.ropes) {
    if (rope.inverse_frequencies.empty() ||
        2 * rope.inverse_frequencies.size() > static_cast<size_t>(spec.head_dim)) {
      return {Code::kInvalidArgument,
              "a rope turns " + std::to_string(2 * rope.inverse_frequencies.size()) +
                  " dimensions of a head of " + std::to_string(spec.head_dim)};
    }
  }
  for (const LayerSpec& layer : spec.layers) {
    if (layer.rope < 0 || layer.rope >= static_cast<int32_t>(spec.ropes.size()) ||
        layer.window < 0) {
      return {Code::kInvalidArgument, "a layer names rope " + std::to_string(layer.rope) +
                                          " and window " + std::to_string(layer.window)};
    }
  }
  return {};
}

Status check_layer(const Model& model, const LayerWeights& layer) {
  const ModelSpec& spec = model.spec;
  const int32_t query = spec.head_count * spec.head_dim;
  const int32_t kv = spec.kv_head_count * spec.head_dim;
  QUIRE_TRY(check_slice(model, layer.attention_norm, 1, spec.hidden_size));
  QUIRE_TRY(check_slice(model, layer.query, query, spec.hidden_size));
  QUIRE_TRY(check_slice(model, layer.key, kv, spec.hidden_size));
  QUIRE_TRY(check_slice(model, layer.value, kv, spec.hidden_size));
  QUIRE_TRY(check_vector(model, layer.query_bias, query));
  QUIRE_TRY(check_vector(model, layer.key_bias, kv));
  QUIRE_TRY(check_vector(model, layer.value_bias, kv));
  QUIRE_TRY(check_vector(model, layer.query_norm, spec.head_dim));
  QUIRE_TRY(check_vector(model, layer.key_norm, spec.head_dim));
  QUIRE_TRY(check_slice(model, layer.attention_output, spec.hidden_size, query));
  QUIRE_TRY(check_vector(model, layer.post_attention_norm, spec.hidden_size));
  QUIRE_TRY(check_slice(model, layer.mlp_norm, 1, spec.hidden_size));
  QUIRE_TRY(check_slice(model, layer.gate, spec.ffn_size, spec.hidden_size));
  QUIRE_TRY(check_slice(model, layer.up, spec.ffn_size, spec.hidden_size));
  QUIRE_TRY(check_slice(model, layer.down, spec.hidden_size, spec.ffn_size));
  return check_vector(model, layer.post_mlp_norm, spec.hidden_size);
}

}  // namespace

Status check_model(const Model& model) {
  const ModelSpec& spec = model.spec;
  const ModelWeights& weights = model.weights;
  QUIRE_TRY(check_sizes(spec));
  QUIRE_TRY(check_ropes(spec));
  if (weights.layers.size() != spec.layers.size()) {
    return {Code::kInvalidArgument, "weights of " + std::to_string(weights.layers.size()) +
                                        " layers, the model has " +
                                        std::to_string(spec.layers.size())};
  }
  QUIRE_TRY(check_slice(model, weights.embedding, spec.vocab_size, spec.hidden_size));
  QUIRE_TRY(check_slice(model, weights.final_norm, 1, spec.hidden_size));
  if (weights.lm_head) {
    QUIRE_TRY(check_slice(model, *weights.lm_head, spec.vocab_size, spec.hidden_size));
  }
  for (const LayerWeights& layer : weights.layers) QUIRE_TRY(check_layer(model, layer));
  return {};
}

}  // namespace quire
