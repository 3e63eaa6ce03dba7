#pragma once

#include <cstdint>
#include <vector>

#include "common/row_sampling.h"
#include "common/status.h"
#include "models/backend.h"

namespace quire {

// A row's opening, waiting for the step that it comes before.
struct RowOpening {
  int32_t row = 0;
  RowSampling sampling;
  std::vector<int32_t> token_ids;  // empty unless the sampling counts tokens
  int32_t prompt_length = 0;
};

struct BlockEdit {
  int32_t row = 0;
  int32_t first_index = 0;
  int32_t count = 0;
};

// Everything of one step: the changes of rows that come before it, its batch, and its result. Slots
// are reused, so their buffers grow to what steps need and then stay.
struct StepSlot {
  explicit StepSlot(const StepLimits& limits);

  void copy(const Batch& source);
  Batch batch() const;
  SampleOutput output();
  // The next opening to fill; its buffers are those of an earlier one.
  RowOpening& next_opening();
  void clear_edits();

  std::vector<RowOpening> openings;
  int32_t opening_count = 0;
  std::vector<BlockEdit> block_edits;
  std::vector<int32_t> blocks;  // of all edits, one after the other

  int32_t chunk_count = 0;
  int32_t token_count = 0;
  std::vector<int32_t> rows, starts, counts, token_ids;
  std::vector<uint8_t> flags;

  Status status;
  double step_ms = 0.0;
  int32_t sampled_count = 0;
  std::vector<int32_t> sampled_ids, top_token_ids;
  std::vector<float> logprobs, top_logprobs;
};

}  // namespace quire
