#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "models/backend.h"
#include "models/model.h"

namespace quire {

struct DecoderLayer {
  const float* attention_norm = nullptr;
  Linear qkv;
  const float* query_norm = nullptr;
  const float* key_norm = nullptr;
  Linear attention_output;
  const float* post_attention_norm = nullptr;
  const float* mlp_norm = nullptr;
  Linear gate_up;
  Linear down;
  const float* post_mlp_norm = nullptr;
};

struct DecoderWeights {
  PackedMatrix embedding;
  const float* final_norm = nullptr;
  Linear lm_head;
  std::vector<DecoderLayer> layers;
};

// Rows and columns of one slice that go to one place of one rank's memory: a packed matrix, or a
// float32 vector.
struct WeightLoad {
  const WeightSlice* slice = nullptr;
  int32_t row_begin = 0;
  int32_t column_begin = 0;
  PackedMatrix matrix;  // its rows and columns are the ones to read
  float* vector = nullptr;
};

// Where everything of one rank lies in its weight memory.
struct WeightLayout {
  DecoderWeights weights;
  std::vector<WeightLoad> loads;
  int64_t bytes = 0;

  std::vector<PackedMatrix> matrices() const;
};

// Lays the rank's part of the model out from `base` on, or only counts bytes when it is null.
// The result points into `model`.
WeightLayout lay_out_weights(const Model& model, const RankShape& shape, const Backend& backend,
                             std::byte* base);

}  // namespace quire
