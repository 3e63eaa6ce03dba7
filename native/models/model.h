#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/weight_type.h"

// The description of a model that engine/models makes from a checkpoint. The fields mean what they
// mean in engine/models/model-spec.ts.
namespace quire {

// Whole rows of one tensor, contiguous in one file. A vector is one row.
struct WeightSlice {
  std::string name;
  WeightType type = WeightType::kF32;
  int32_t rows = 0;
  int32_t columns = 0;
  int32_t file = 0;
  int64_t offset = 0;
  int64_t byte_length = 0;
};

// Matrices are [outputs, inputs].
struct LayerWeights {
  WeightSlice attention_norm;
  WeightSlice query, key, value;
  std::optional<WeightSlice> query_bias, key_bias, value_bias;
  std::optional<WeightSlice> query_norm, key_norm;
  WeightSlice attention_output;
  std::optional<WeightSlice> post_attention_norm;
  WeightSlice mlp_norm;
  WeightSlice gate, up, down;
  std::optional<WeightSlice> post_mlp_norm;
};

struct ModelWeights {
  WeightSlice embedding;
  WeightSlice final_norm;
  std::optional<WeightSlice> lm_head;  // absent: the embedding is the output matrix
  std::vector<LayerWeights> layers;
};

struct Rope {
  std::vector<float> inverse_frequencies;
  float magnitude = 1.0f;
};

struct LayerSpec {
  int32_t window = 0;  // tokens a query sees, itself included; 0 sees all
  int32_t rope = 0;
};

enum class Activation : uint8_t { kSilu, kGeluTanh };
enum class RopeLayout : uint8_t { kHalves, kAdjacent };

struct ModelSpec {
  int32_t vocab_size = 0;
  int32_t hidden_size = 0;
  int32_t head_count = 0;
  int32_t kv_head_count = 0;
  int32_t head_dim = 0;
  int32_t ffn_size = 0;
  float norm_epsilon = 0.0f;
  float norm_offset = 0.0f;
  Activation activation = Activation::kSilu;
  RopeLayout rope_layout = RopeLayout::kHalves;
  std::vector<Rope> ropes;
  std::vector<LayerSpec> layers;
  float embedding_scale = 1.0f;
  float attention_scale = 1.0f;
  float residual_scale = 1.0f;
  float logit_scale = 1.0f;
  float attention_softcap = 0.0f;
  float logit_softcap = 0.0f;
};

struct Model {
  ModelSpec spec;
  ModelWeights weights;
  std::vector<std::string> files;
};

}  // namespace quire
