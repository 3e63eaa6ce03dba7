#pragma once

#include "models/backend.h"
#include "models/decoder_weights.h"

namespace quire {

// The forward pass of every ModelSpec, for one rank.
//
// Every operation treats tokens (or chunks) independently of each other and of how they were split,
// so a request's result does not depend on what else is in the batch.
class Decoder {
 public:
  static int64_t workspace_bytes(const ModelSpec& spec, const RankShape& shape,
                                 const StepLimits& limits, int32_t element_bytes);

  // `workspace` is 64-byte aligned and holds workspace_bytes. All arguments outlive the decoder.
  Decoder(const ModelSpec& spec, const RankShape& shape, const StepLimits& limits,
          const DecoderWeights& weights, Backend& backend, std::byte* workspace);

  // Computes the batch, writes its keys and values, and on rank 0 draws one token for each sampling
  // chunk. All ranks call it at once with the same batch.
  Status step(const Batch& batch, const SampleOutput& output, int32_t* sampled_count);

 private:
  // A buffer and the columns that it was sized for.
  struct Buffer {
    std::byte* data = nullptr;
    int32_t columns = 0;
  };

  static View rows(const Buffer& buffer, int32_t row_count);
  void attention_block(int32_t layer, View hidden);
  void mlp_block(int32_t layer, View hidden);
  // hidden += residual scale * post_norm(sum over ranks of weight * input)
  void add_block(View input, const Linear& weight, const float* post_norm, View hidden);
  void norm(View input, const float* weight, View output);
  Status sample(View last, const SampleOutput& output);

  const ModelSpec& spec_;
  const RankShape shape_;
  const DecoderWeights& weights_;
  Backend& backend_;
  Buffer hidden_, normed_, attended_, sampled_, local_logits_, logits_;
  // Share memory: queries, keys and values are dead when the FFN runs.
  Buffer qkv_, activated_;
};

}  // namespace quire
