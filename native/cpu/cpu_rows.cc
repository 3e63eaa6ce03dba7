#include "cpu/cpu_rows.h"

#include <algorithm>
#include <string>
#include <utility>

#include "cpu/sample_row.h"

namespace quire::cpu {
namespace {

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

Status out_of_bounds(int32_t row, const std::string& what) {
  return {Code::kDeviceFailed, "row " + std::to_string(row) + ": " + what};
}

}  // namespace

CpuRows::CpuRows(const StepLimits& limits, int32_t vocab_size)
    : limits_(limits),
      vocab_size_(vocab_size),
      blocks_per_row_((limits.max_model_len + limits.block_size - 1) / limits.block_size),
      sampling_(limits.max_rows) {}

int64_t CpuRows::bytes() const {
  const int64_t rows = limits_.max_rows;
  return aligned(rows * blocks_per_row_ * 4) + 2 * aligned(rows * 4) +
         aligned(rows * vocab_size_ * 2);
}

void CpuRows::bind(std::byte* memory, int32_t block_count) {
  const int64_t rows = limits_.max_rows;
  block_count_ = block_count;
  block_tables_ = reinterpret_cast<int32_t*>(memory);
  memory += aligned(rows * blocks_per_row_ * 4);
  last_tokens_ = reinterpret_cast<int32_t*>(memory);
  memory += aligned(rows * 4);
  prompt_lengths_ = reinterpret_cast<int32_t*>(memory);
  memory += aligned(rows * 4);
  token_counts_ = reinterpret_cast<uint16_t*>(memory);
  std::fill_n(block_tables_, rows * blocks_per_row_, -1);
  std::fill_n(last_tokens_, rows, -1);
  std::fill_n(prompt_lengths_, rows, 0);
}

void CpuRows::open(int32_t row, RowSampling& sampling, const std::vector<int32_t>& token_ids,
                   int32_t prompt_length) {
  std::swap(sampling_[row], sampling);
  last_tokens_[row] = -1;
  prompt_lengths_[row] = prompt_length;
  if (!sampling_[row].has_penalties()) return;
  uint16_t* counts = counts_of(row);
  std::fill_n(counts, vocab_size_, uint16_t{0});
  for (size_t i = 0; i < token_ids.size(); ++i) {
    uint16_t& count = counts[token_ids[i]];
    if (i < static_cast<size_t>(prompt_length)) {
      count = kInPrompt;
    } else if ((count & kMaxOutputCount) < kMaxOutputCount) {
      ++count;
    }
  }
}

void CpuRows::set_blocks(int32_t row, int32_t first_index, const int32_t* blocks, int32_t count) {
  std::copy_n(blocks, count, block_tables_ + int64_t{row} * blocks_per_row_ + first_index);
}

void CpuRows::record(int32_t row, int32_t token_id) {
  last_tokens_[row] = token_id;
  if (!sampling_[row].has_penalties()) return;
  uint16_t& count = counts_of(row)[token_id];
  if ((count & kMaxOutputCount) < kMaxOutputCount) ++count;
}

Status CpuRows::check(const Batch& batch) const {
  if (batch.chunk_count < 1 || batch.chunk_count > limits_.max_rows) {
    return {Code::kDeviceFailed, "a step of " + std::to_string(batch.chunk_count) +
                                     " chunks, the limit is " + std::to_string(limits_.max_rows)};
  }
  if (batch.token_count > limits_.max_batched_tokens) {
    return {Code::kDeviceFailed, "a step of " + std::to_string(batch.token_count) +
                                     " tokens, the limit is " +
                                     std::to_string(limits_.max_batched_tokens)};
  }
  int64_t tokens = 0;
  for (int32_t chunk = 0; chunk < batch.chunk_count; ++chunk) {
    QUIRE_TRY(check_chunk(batch, chunk));
    tokens += batch.counts[chunk];
  }
  if (tokens != batch.token_count) {
    return {Code::kDeviceFailed, "chunks of " + std::to_string(tokens) + " tokens in a step of " +
                                     std::to_string(batch.token_count)};
  }
  int32_t token = 0;
  for (int32_t chunk = 0; chunk < batch.chunk_count; ++chunk) {
    const int32_t row = batch.rows[chunk];
    for (const int32_t end = token + batch.counts[chunk]; token < end; ++token) {
      const int32_t id = batch.token_ids[token];
      if (id == kLastSampled && last_tokens_[row] < 0) {
        return out_of_bounds(row, "asks for its last sampled token and has sampled none");
      }
      if (id < kLastSampled || id >= vocab_size_) {
        return out_of_bounds(row, "token " + std::to_string(id) + ", the vocabulary has " +
                                      std::to_string(vocab_size_));
      }
    }
  }
  return {};
}

Status CpuRows::check_chunk(const Batch& batch, int32_t chunk) const {
  const int32_t row = batch.rows[chunk];
  if (row < 0 || row >= limits_.max_rows) {
    return out_of_bounds(row, "the device has rows 0 to " + std::to_string(limits_.max_rows - 1));
  }
  for (int32_t other = 0; other < chunk; ++other) {
    if (batch.rows[other] == row) return out_of_bounds(row, "has two chunks in one step");
  }
  const int64_t start = batch.starts[chunk];
  const int64_t end = start + batch.counts[chunk];
  if (start < 0 || end <= start || end > limits_.max_model_len) {
    return out_of_bounds(row, "positions " + std::to_string(start) + " to " + std::to_string(end) +
                                  ", the limit is " + std::to_string(limits_.max_model_len));
  }
  const int32_t* table = block_table(row);
  for (int64_t index = 0; index * limits_.block_size < end; ++index) {
    if (table[index] >= 0 && table[index] < block_count_) continue;
    return out_of_bounds(row, "block " + std::to_string(table[index]) + " at index " +
                                  std::to_string(index) + " of its table, the cache has " +
                                  std::to_string(block_count_) + " blocks");
  }
  return {};
}

}  // namespace quire::cpu
