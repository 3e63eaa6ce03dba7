#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/row_sampling.h"
#include "common/status.h"
#include "models/backend.h"

namespace quire::cpu {

// What the CPU backend remembers of each row between steps. All ranks share one.
class CpuRows {
 public:
  CpuRows(const StepLimits& limits, int32_t vocab_size);

  // Bytes that bind() takes, 64-byte aligned.
  int64_t bytes() const;
  void bind(std::byte* memory, int32_t block_count);

  void open(int32_t row, RowSampling& sampling, const std::vector<int32_t>& token_ids,
            int32_t prompt_length);
  void set_blocks(int32_t row, int32_t first_index, const int32_t* blocks, int32_t count);

  // kDeviceFailed for anything of the batch that is out of bounds.
  Status check(const Batch& batch) const;

  const RowSampling& sampling(int32_t row) const { return sampling_[row]; }
  const int32_t* block_table(int32_t row) const {
    return block_tables_ + int64_t{row} * blocks_per_row_;
  }
  const uint16_t* token_counts(int32_t row) const {
    return token_counts_ + int64_t{row} * vocab_size_;
  }
  int32_t last_token(int32_t row) const { return last_tokens_[row]; }
  int32_t prompt_length(int32_t row) const { return prompt_lengths_[row]; }

  // The token that a step drew for the row.
  void record(int32_t row, int32_t token_id);

 private:
  Status check_chunk(const Batch& batch, int32_t chunk) const;
  uint16_t* counts_of(int32_t row) { return token_counts_ + int64_t{row} * vocab_size_; }

  const StepLimits limits_;
  const int32_t vocab_size_;
  const int32_t blocks_per_row_;
  int32_t block_count_ = 0;
  std::vector<RowSampling> sampling_;
  int32_t* block_tables_ = nullptr;  // [max_rows, blocks_per_row]; -1 where none was set
  int32_t* last_tokens_ = nullptr;
  int32_t* prompt_lengths_ = nullptr;
  uint16_t* token_counts_ = nullptr;  // [max_rows, vocab_size]
};

}  // namespace quire::cpu
