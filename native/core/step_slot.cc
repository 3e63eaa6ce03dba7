#include "core/step_slot.h"

#include <algorithm>

namespace quire {

StepSlot::StepSlot(const StepLimits& limits)
    : rows(limits.max_rows),
      starts(limits.max_rows),
      counts(limits.max_rows),
      token_ids(limits.max_batched_tokens),
      flags(limits.max_rows),
      sampled_ids(limits.max_rows),
      top_token_ids(int64_t{limits.max_rows} * kMaxTopLogprobs),
      logprobs(limits.max_rows),
      top_logprobs(int64_t{limits.max_rows} * kMaxTopLogprobs) {}

void StepSlot::copy(const Batch& source) {
  chunk_count = source.chunk_count;
  token_count = source.token_count;
  std::copy_n(source.rows, chunk_count, rows.begin());
  std::copy_n(source.starts, chunk_count, starts.begin());
  std::copy_n(source.counts, chunk_count, counts.begin());
  std::copy_n(source.flags, chunk_count, flags.begin());
  std::copy_n(source.token_ids, token_count, token_ids.begin());
}

Batch StepSlot::batch() const {
  return {chunk_count,   token_count,  rows.data(),     starts.data(),
          counts.data(), flags.data(), token_ids.data()};
}

SampleOutput StepSlot::output() {
  return {sampled_ids.data(), logprobs.data(), top_token_ids.data(), top_logprobs.data()};
}

RowOpening& StepSlot::next_opening() {
  if (opening_count == static_cast<int32_t>(openings.size())) openings.emplace_back();
  return openings[opening_count++];
}

void StepSlot::clear_edits() {
  opening_count = 0;
  block_edits.clear();
  blocks.clear();
}

}  // namespace quire
