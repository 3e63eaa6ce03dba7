#include "models/shard.h"

#include <algorithm>

namespace quire {
namespace {

// Vocabulary is cut at whole panels of every backend.
constexpr int32_t kVocabGrain = 64;

Status check_column_cut(const WeightSlice& slice, int32_t rank_count) {
  const int32_t columns = slice.columns / rank_count;
  const int32_t elements = block_shape(slice.type).elements;
  if (columns % elements == 0) return {};
  return {Code::kInvalidArgument, "tensorParallel " + std::to_string(rank_count) + " cuts " +
                                      slice.name + " into inputs of " + std::to_string(columns) +
                                      ", not whole blocks of " + std::to_string(elements)};
}

}  // namespace

Status shard_model(const Model& model, int32_t rank, int32_t rank_count, RankShape* shape) {
  const ModelSpec& spec = model.spec;
  if (rank_count < 1 || spec.kv_head_count % rank_count != 0) {
    return {Code::kInvalidArgument, "tensorParallel " + std::to_string(rank_count) +
                                        " does not divide the model's " +
                                        std::to_string(spec.kv_head_count) + " KV heads"};
  }
  if (spec.ffn_size % rank_count != 0) {
    return {Code::kInvalidArgument, "tensorParallel " + std::to_string(rank_count) +
                                        " does not divide the model's FFN size " +
                                        std::to_string(spec.ffn_size)};
  }
  for (const LayerWeights& layer : model.weights.layers) {
    QUIRE_TRY(check_column_cut(layer.attention_output, rank_count));
    QUIRE_TRY(check_column_cut(layer.down, rank_count));
  }
  const int32_t grains = (spec.vocab_size + kVocabGrain - 1) / kVocabGrain;
  const int32_t vocab_each = (grains + rank_count - 1) / rank_count * kVocabGrain;
  shape->rank = rank;
  shape->rank_count = rank_count;
  shape->head_count = spec.head_count / rank_count;
  shape->kv_head_count = spec.kv_head_count / rank_count;
  shape->ffn_size = spec.ffn_size / rank_count;
  shape->vocab_begin = std::min(rank * vocab_each, spec.vocab_size);
  shape->vocab_count = std::min(vocab_each, spec.vocab_size - shape->vocab_begin);
  if (shape->vocab_count == 0) {
    return {Code::kInvalidArgument, "tensorParallel " + std::to_string(rank_count) +
                                        " leaves rank " + std::to_string(rank) +
                                        " no part of a vocabulary of " +
                                        std::to_string(spec.vocab_size)};
  }
  return {};
}

}  // namespace quire
