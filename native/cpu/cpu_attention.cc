#include <algorithm>
#include <cmath>

#include "cpu/cpu_backend.h"

// Positions: rotating queries and keys, writing the cache and reading it.
namespace quire::cpu {
namespace {

float* row_of(const View& view, int32_t row) {
  return reinterpret_cast<float*>(view.data) + row * view.stride;
}

}  // namespace

// The angle is a float32 product, as Hugging Face computes it: rounding it differently moves the
// cosines of far positions by more than anything else in a float32 forward pass.
void CpuBackend::compute_rope(int32_t token) {
  const auto position = static_cast<float>(positions_[token]);
  float* entry = rope_table_ + token * rope_floats_;
  for (const Rope& rope : spec_.ropes) {
    const size_t half = rope.inverse_frequencies.size();
    for (size_t i = 0; i < half; ++i) {
      const double angle = position * rope.inverse_frequencies[i];
      entry[i] = static_cast<float>(std::cos(angle)) * rope.magnitude;
      entry[half + i] = static_cast<float>(std::sin(angle)) * rope.magnitude;
    }
    entry += 2 * half;
  }
}

void CpuBackend::rotate(float* head, const Rope& rope, const float* cosines) const {
  const auto half = static_cast<int32_t>(rope.inverse_frequencies.size());
  const float* sines = cosines + half;
  const bool halves = spec_.rope_layout == RopeLayout::kHalves;
  const int32_t first_stride = halves ? 1 : 2;
  const int32_t second = halves ? half : 1;
  for (int32_t i = 0; i < half; ++i) {
    float* x = head + i * first_stride;
    const float a = x[0];
    const float b = x[second];
    x[0] = a * cosines[i] - b * sines[i];
    x[second] = b * cosines[i] + a * sines[i];
  }
}

void CpuBackend::rope_token(const RopeStoreArgs& args, int32_t token) {
  const int32_t head_dim = spec_.head_dim;
  const int32_t turned = shape_.head_count + shape_.kv_head_count;
  const int32_t rope_index = spec_.layers[args.layer].rope;
  const float* cosines = rope_table_ + token * rope_floats_ + rope_offsets_[rope_index];
  float* heads = row_of(args.qkv, token);
  for (int32_t h = 0; h < turned; ++h) {
    float* head = heads + h * head_dim;
    const float* norm = h < shape_.head_count ? args.query_norm : args.key_norm;
    if (norm != nullptr) {
      table_.rms_norm(head, norm, spec_.norm_offset, spec_.norm_epsilon, head_dim, head);
    }
    rotate(head, spec_.ropes[rope_index], cosines);
  }
  const int32_t position = positions_[token];
  const int32_t block = rows_->block_table(token_rows_[token])[position / limits_.block_size];
  for (int32_t h = 0; h < shape_.kv_head_count; ++h) {
    const float* key = heads + (shape_.head_count + h) * head_dim;
    const float* value = key + shape_.kv_head_count * head_dim;
    table_.store_kv(kv_shape(), key, value, position % limits_.block_size,
                    page(args.layer, h, block));
  }
}

void CpuBackend::rope_and_store_kv(const RopeStoreArgs& args) {
  for_each(args.qkv.rows, args.qkv.columns,
           [&](int32_t token, int32_t) { rope_token(args, token); });
}

void CpuBackend::attention(const quire::AttentionArgs& args) {
  const int32_t tile_count = chunk_tiles_[batch_.chunk_count];
  pool_->run(tile_count * shape_.kv_head_count, [&](int32_t task, int32_t thread) {
    // The last tiles of a chunk see the most keys: they go first, so that no thread is left with
    // one.
    const int32_t tile = tile_count - 1 - task / shape_.kv_head_count;
    attend(args, tile, task % shape_.kv_head_count, thread);
  });
}

void CpuBackend::attend(const quire::AttentionArgs& args, int32_t tile, int32_t head,
                        int32_t thread) {
  const int32_t* next_chunk =
      std::upper_bound(chunk_tiles_, chunk_tiles_ + batch_.chunk_count, tile);
  const auto chunk = static_cast<int32_t>(next_chunk - chunk_tiles_) - 1;
  const int32_t first = (tile - chunk_tiles_[chunk]) * kQueryTile;
  const int32_t token = chunk_tokens_[chunk] + first;
  const int32_t group_size = shape_.head_count / shape_.kv_head_count;
  const int32_t head_column = head * group_size * spec_.head_dim;

  AttentionArgs kernel;
  kernel.query = row_of(args.qkv, token) + head_column;
  kernel.query_stride = args.qkv.stride;
  kernel.output = row_of(args.output, token) + head_column;
  kernel.output_stride = args.output.stride;
  kernel.cache = page(args.layer, head, 0);
  kernel.block_stride = kv_block_bytes();
  kernel.block_table = rows_->block_table(batch_.rows[chunk]);
  kernel.kv = kv_shape();
  kernel.group_size = group_size;
  kernel.start = batch_.starts[chunk] + first;
  kernel.token_count = std::min(kQueryTile, batch_.counts[chunk] - first);
  kernel.window = spec_.layers[args.layer].window;
  kernel.scale = spec_.attention_scale;
  kernel.softcap = spec_.attention_softcap;
  kernel.scratch = thread_scratch_ + thread * thread_scratch_bytes_;
  table_.attention(kernel);
}

}  // namespace quire::cpu
