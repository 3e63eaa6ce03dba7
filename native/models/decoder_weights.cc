#include "models/decoder_weights.h"

namespace quire {
namespace {

constexpr int64_t kAlignment = 64;

// Hands out consecutive places and notes what has to be read into them.
class Placer {
 public:
  Placer(const Backend& backend, std::byte* base, WeightLayout* layout)
      : backend_(backend), base_(base), layout_(layout) {}

  PackedMatrix matrix(const WeightSlice& slice, int32_t row_begin, int32_t rows,
                      int32_t column_begin, int32_t columns) {
    const MatrixLayout layout = backend_.matrix_layout(slice.type, rows, columns);
    const PackedMatrix matrix{take(layout.bytes), layout.packing, rows, columns};
    layout_->loads.push_back({&slice, row_begin, column_begin, matrix, nullptr});
    return matrix;
  }

  // This rank's rows of a matrix that is cut by outputs.
  PackedMatrix row_part(const WeightSlice& slice, const RankShape& shape) {
    const int32_t rows = slice.rows / shape.rank_count;
    return matrix(slice, shape.rank * rows, rows, 0, slice.columns);
  }

  // This rank's columns of a matrix that is cut by inputs.
  PackedMatrix column_part(const WeightSlice& slice, const RankShape& shape) {
    const int32_t columns = slice.columns / shape.rank_count;
    return matrix(slice, 0, slice.rows, shape.rank * columns, columns);
  }

  const float* vector(const WeightSlice& slice, int32_t begin, int32_t count) {
    auto* data = reinterpret_cast<float*>(take(int64_t{count} * sizeof(float)));
    layout_->loads.push_back({&slice, 0, begin, {nullptr, 0, 1, count}, data});
    return data;
  }

  const float* whole_vector(const WeightSlice& slice) { return vector(slice, 0, slice.columns); }

  const float* whole_vector(const std::optional<WeightSlice>& slice) {
    return slice ? whole_vector(*slice) : nullptr;
  }

  const float* vector_part(const std::optional<WeightSlice>& slice, const RankShape& shape) {
    if (!slice) return nullptr;
    const int32_t count = slice->columns / shape.rank_count;
    return vector(*slice, shape.rank * count, count);
  }

 private:
  std::byte* take(int64_t bytes) {
    std::byte* place = base_ == nullptr ? nullptr : base_ + layout_->bytes;
    layout_->bytes += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return place;
  }

  const Backend& backend_;
  std::byte* base_;
  WeightLayout* layout_;
};

Linear single(const PackedMatrix& matrix) {
  Linear linear;
  linear.parts[0].matrix = matrix;
  linear.part_count = 1;
  return linear;
}

void append(Linear* linear, const PackedMatrix& matrix, const float* bias) {
  int32_t column = 0;
  for (int32_t i = 0; i < linear->part_count; ++i) column += linear->parts[i].matrix.rows;
  linear->parts[linear->part_count++] = {matrix, bias, column};
}

DecoderLayer lay_out_layer(const LayerWeights& source, const RankShape& shape, Placer& placer) {
  DecoderLayer layer;
  layer.attention_norm = placer.whole_vector(source.attention_norm);
  append(&layer.qkv, placer.row_part(source.query, shape),
         placer.vector_part(source.query_bias, shape));
  append(&layer.qkv, placer.row_part(source.key, shape),
         placer.vector_part(source.key_bias, shape));
  append(&layer.qkv, placer.row_part(source.value, shape),
         placer.vector_part(source.value_bias, shape));
  layer.query_norm = placer.whole_vector(source.query_norm);
  layer.key_norm = placer.whole_vector(source.key_norm);
  layer.attention_output = single(placer.column_part(source.attention_output, shape));
  layer.post_attention_norm = placer.whole_vector(source.post_attention_norm);
  layer.mlp_norm = placer.whole_vector(source.mlp_norm);
  append(&layer.gate_up, placer.row_part(source.gate, shape), nullptr);
  append(&layer.gate_up, placer.row_part(source.up, shape), nullptr);
  layer.down = single(placer.column_part(source.down, shape));
  layer.post_mlp_norm = placer.whole_vector(source.post_mlp_norm);
  return layer;
}

}  // namespace

std::vector<PackedMatrix> WeightLayout::matrices() const {
  std::vector<PackedMatrix> matrices;
  for (const WeightLoad& load : loads) {
    if (load.vector == nullptr && load.matrix.rows > 0) matrices.push_back(load.matrix);
  }
  return matrices;
}

WeightLayout lay_out_weights(const Model& model, const RankShape& shape, const Backend& backend,
                             std::byte* base) {
  WeightLayout layout;
  Placer placer(backend, base, &layout);
  const ModelWeights& source = model.weights;
  layout.weights.embedding = placer.matrix(source.embedding, shape.vocab_begin, shape.vocab_count,
                                           0, source.embedding.columns);
  layout.weights.layers.reserve(source.layers.size());
  for (const LayerWeights& layer : source.layers) {
    layout.weights.layers.push_back(lay_out_layer(layer, shape, placer));
  }
  layout.weights.final_norm = placer.whole_vector(source.final_norm);
  layout.weights.lm_head =
      source.lm_head ? single(placer.matrix(*source.lm_head, shape.vocab_begin, shape.vocab_count,
                                            0, source.lm_head->columns))
                     : single(layout.weights.embedding);
  return layout;
}

}  // namespace quire
