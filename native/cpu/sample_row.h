#pragma once

#include <cstdint>

#include "common/row_sampling.h"
#include "cpu/kernels.h"

namespace quire::cpu {

struct Candidate {
  float logit;
  int32_t token_id;
};

// One thread's memory for sampling; each holds `vocab_size` entries.
struct SampleScratch {
  float* logits = nullptr;
  Candidate* candidates = nullptr;
};

// Tokens that a row has seen, one counter per token id: how often it was generated, saturating, and
// whether it is in the prompt.
constexpr uint16_t kInPrompt = 0x8000;
constexpr uint16_t kMaxOutputCount = 0x7fff;

struct SampleInput {
  const float* logits = nullptr;  // [vocab_size], left as they are
  int32_t vocab_size = 0;
  const RowSampling* sampling = nullptr;
  const uint16_t* token_counts = nullptr;  // [vocab_size]; read when there are penalties
  int32_t position = 0;                    // of the token to draw, in its request
  int32_t generated_count = 0;             // tokens that the request generated before it
};

struct RowSample {
  int32_t token_id = 0;
  float logprob = 0.0f;
  int32_t top_token_ids[kMaxTopLogprobs];
  float top_logprobs[kMaxTopLogprobs];
};

// Draws one token. Order and meaning are vLLM's: stop tokens masked below min_tokens, logit bias,
// repetition, frequency and presence penalties, then greedy (lowest id of equals), or temperature,
// min-p, top-k (ties of the k-th stay), top-p, and a draw by inverse transform with the uniform of
// (seed, position). Log-probabilities are those of the logits as they came.
//
// Returns false when the logits hold a NaN or an infinity.
bool sample_row(const KernelTable& table, const SampleInput& input, const SampleScratch& scratch,
                RowSample* sample);

}  // namespace quire::cpu
