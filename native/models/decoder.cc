#include "models/decoder.h"

#include <algorithm>

namespace quire {
namespace {

constexpr int64_t kAlignment = 64;

int64_t aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Elements between rows of logits: keeps every row 64-byte aligned.
int32_t padded_vocab(int32_t count) { return (count + 15) / 16 * 16; }

struct BufferBytes {
  int64_t hidden, shared, attended, sampled, local_logits, logits;

  int64_t total() const { return 2 * hidden + shared + attended + sampled + local_logits + logits; }
};

BufferBytes buffer_bytes(const ModelSpec& spec, const RankShape& shape, const StepLimits& limits,
                         int32_t element_bytes) {
  const int64_t tokens = limits.max_batched_tokens;
  const int64_t sampled = std::min(limits.max_rows, limits.max_batched_tokens);
  const int64_t shared_columns = std::max(shape.qkv_size(spec), shape.ffn_size);
  const bool split = shape.rank_count > 1;
  const bool gathers = shape.rank == 0 || !split;
  BufferBytes bytes;
  bytes.hidden = aligned(tokens * spec.hidden_size * element_bytes);
  bytes.shared = aligned(tokens * shared_columns * element_bytes);
  bytes.attended = aligned(tokens * shape.query_size(spec) * element_bytes);
  bytes.sampled = aligned(sampled * spec.hidden_size * element_bytes);
  bytes.local_logits =
      split ? aligned(sampled * padded_vocab(shape.vocab_count) * int64_t{sizeof(float)}) : 0;
  bytes.logits =
      gathers ? aligned(sampled * padded_vocab(spec.vocab_size) * int64_t{sizeof(float)}) : 0;
  return bytes;
}

}  // namespace

int64_t Decoder::workspace_bytes(const ModelSpec& spec, const RankShape& shape,
                                 const StepLimits& limits, int32_t element_bytes) {
  return buffer_bytes(spec, shape, limits, element_bytes).total();
}

Decoder::Decoder(const ModelSpec& spec, const RankShape& shape, const StepLimits& limits,
                 const DecoderWeights& weights, Backend& backend, std::byte* workspace)
    : spec_(spec), shape_(shape), weights_(weights), backend_(backend) {
  const BufferBytes bytes = buffer_bytes(spec, shape, limits, backend.element_bytes());
  std::byte* next = workspace;
  const auto take = [&next](int64_t size, int32_t columns) {
    const Buffer buffer{next, columns};
    next += size;
    return buffer;
  };
  hidden_ = take(bytes.hidden, spec.hidden_size);
  normed_ = take(bytes.hidden, spec.hidden_size);
  qkv_ = take(bytes.shared, shape.qkv_size(spec));
  activated_ = {qkv_.data, shape.ffn_size};
  attended_ = take(bytes.attended, shape.query_size(spec));
  sampled_ = take(bytes.sampled, spec.hidden_size);
  local_logits_ = take(bytes.local_logits, shape.vocab_count);
  logits_ = take(bytes.logits, spec.vocab_size);
}

View Decoder::rows(const Buffer& buffer, int32_t row_count) {
  return {buffer.data, row_count, buffer.columns, buffer.columns};
}

Status Decoder::step(const Batch& batch, const SampleOutput& output, int32_t* sampled_count) {
  QUIRE_TRY(backend_.begin_step(batch));
  const View hidden = rows(hidden_, batch.token_count);
  backend_.embed(weights_.embedding, shape_.vocab_begin, spec_.embedding_scale, hidden);
  backend_.all_reduce(hidden);
  for (int32_t layer = 0; layer < static_cast<int32_t>(spec_.layers.size()); ++layer) {
    attention_block(layer, hidden);
    mlp_block(layer, hidden);
  }
  View last = rows(sampled_, batch.chunk_count);
  last.rows = backend_.gather_sampled(hidden, last);
  *sampled_count = last.rows;
  return last.rows == 0 ? Status() : sample(last, output);
}

void Decoder::attention_block(int32_t layer, View hidden) {
  const DecoderLayer& weights = weights_.layers[layer];
  const View normed = rows(normed_, hidden.rows);
  const View qkv = rows(qkv_, hidden.rows);
  const View attended = rows(attended_, hidden.rows);
  norm(hidden, weights.attention_norm, normed);
  backend_.linear({normed, &weights.qkv, Epilogue::kStore, 1.0f, qkv});
  backend_.rope_and_store_kv({qkv, layer, weights.query_norm, weights.key_norm});
  backend_.attention({qkv, attended, layer});
  add_block(attended, weights.attention_output, weights.post_attention_norm, hidden);
}

void Decoder::mlp_block(int32_t layer, View hidden) {
  const DecoderLayer& weights = weights_.layers[layer];
  const View normed = rows(normed_, hidden.rows);
  const View activated = rows(activated_, hidden.rows);
  const Epilogue gate =
      spec_.activation == Activation::kSilu ? Epilogue::kSiluMul : Epilogue::kGeluMul;
  norm(hidden, weights.mlp_norm, normed);
  backend_.linear({normed, &weights.gate_up, gate, 1.0f, activated});
  add_block(activated, weights.down, weights.post_mlp_norm, hidden);
}

void Decoder::add_block(View input, const Linear& weight, const float* post_norm, View hidden) {
  if (shape_.rank_count == 1 && post_norm == nullptr) {
    backend_.linear({input, &weight, Epilogue::kAddScaled, spec_.residual_scale, hidden});
    return;
  }
  const View product = rows(normed_, hidden.rows);
  backend_.linear({input, &weight, Epilogue::kStore, 1.0f, product});
  backend_.all_reduce(product);
  if (post_norm != nullptr) norm(product, post_norm, product);
  backend_.add_scaled(product, spec_.residual_scale, hidden);
}

void Decoder::norm(View input, const float* weight, View output) {
  backend_.rms_norm({input, weight, spec_.norm_offset, spec_.norm_epsilon, output});
}

Status Decoder::sample(View last, const SampleOutput& output) {
  norm(last, weights_.final_norm, last);
  const bool split = shape_.rank_count > 1;
  View local = rows(split ? local_logits_ : logits_, last.rows);
  local.stride = padded_vocab(local.columns);
  View full = rows(logits_, last.rows);
  full.stride = padded_vocab(full.columns);
  backend_.linear({last, &weights_.lm_head, Epilogue::kStore, 1.0f, local});
  backend_.gather_columns(local, shape_.vocab_begin, full);
  if (shape_.rank != 0) return {};
  if (spec_.logit_scale != 1.0f || spec_.logit_softcap != 0.0f) {
    backend_.scale_softcap(spec_.logit_scale, spec_.logit_softcap, full);
  }
  return backend_.sample(full, output);
}

}  // namespace quire
