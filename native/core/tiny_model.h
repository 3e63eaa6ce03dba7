#pragma once

#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "models/model.h"

// A random model that a test writes to a file of its own.
namespace quire::testing {

class TinyModel {
 public:
  TinyModel() {
    std::string name = "/tmp/quire-tiny-model-XXXXXX";
    close(mkstemp(name.data()));
    model_.files = {name};
    fill();
    std::ofstream(name, std::ios::binary)
        .write(reinterpret_cast<const char*>(values_.data()),
               static_cast<std::streamsize>(values_.size() * sizeof(float)));
  }
  TinyModel(const TinyModel&) = delete;
  TinyModel& operator=(const TinyModel&) = delete;
  ~TinyModel() { unlink(model_.files[0].c_str()); }

  const Model& model() const { return model_; }

 private:
  void fill() {
    ModelSpec& spec = model_.spec;
    spec.vocab_size = 200;
    spec.hidden_size = 64;
    spec.head_count = 4;
    spec.kv_head_count = 2;
    spec.head_dim = 16;
    spec.ffn_size = 96;
    spec.norm_epsilon = 1e-5f;
    spec.attention_scale = 0.25f;
    spec.ropes = {{{1.0f, 0.3f, 0.1f, 0.03f, 0.01f, 3e-3f, 1e-3f, 3e-4f}, 1.0f}};
    spec.layers = {{0, 0}, {5, 0}};
    model_.weights.embedding = slice("embedding", spec.vocab_size, spec.hidden_size, 1.0f);
    model_.weights.final_norm = slice("final_norm", 1, spec.hidden_size, 1.0f);
    for (size_t i = 0; i < spec.layers.size(); ++i) model_.weights.layers.push_back(layer());
  }

  LayerWeights layer() {
    const ModelSpec& spec = model_.spec;
    const int32_t hidden = spec.hidden_size;
    const int32_t query = spec.head_count * spec.head_dim;
    const int32_t kv = spec.kv_head_count * spec.head_dim;
    LayerWeights layer;
    layer.attention_norm = slice("attention_norm", 1, hidden, 1.0f);
    layer.query = slice("query", query, hidden, 0.2f);
    layer.key = slice("key", kv, hidden, 0.2f);
    layer.value = slice("value", kv, hidden, 0.2f);
    layer.query_bias = slice("query_bias", 1, query, 0.2f);
    layer.key_bias = slice("key_bias", 1, kv, 0.2f);
    layer.value_bias = slice("value_bias", 1, kv, 0.2f);
    layer.attention_output = slice("attention_output", hidden, query, 0.2f);
    layer.post_attention_norm = slice("post_attention_norm", 1, hidden, 1.0f);
    layer.mlp_norm = slice("mlp_norm", 1, hidden, 1.0f);
    layer.gate = slice("gate", spec.ffn_size, hidden, 0.2f);
    layer.up = slice("up", spec.ffn_size, hidden, 0.2f);
    layer.down = slice("down", hidden, spec.ffn_size, 0.2f);
    return layer;
  }

  WeightSlice slice(const char* name, int32_t rows, int32_t columns, float scale) {
    const auto offset = static_cast<int64_t>(values_.size() * sizeof(float));
    std::normal_distribution<float> normal(0.0f, scale);
    for (int64_t i = 0; i < int64_t{rows} * columns; ++i) values_.push_back(normal(random_));
    return {name,
            WeightType::kF32,
            rows,
            columns,
            0,
            offset,
            int64_t{rows} * columns * static_cast<int64_t>(sizeof(float))};
  }

  Model model_;
  std::vector<float> values_;
  std::mt19937 random_{42};
};

}  // namespace quire::testing
