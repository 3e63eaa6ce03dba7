#pragma once

#include <cstdint>

#include "common/row_sampling.h"
#include "kernels/launch.h"

namespace quire {

// How one row is drawn, in device memory; the fields mean what they mean in RowSampling. Pointers
// are to device memory and null where the count is 0.
struct SamplerRow {
  float temperature = 0.0f;
  int32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float repetition_penalty = 1.0f;
  int32_t top_logprobs = -1;
  uint64_t seed = 0;
  int32_t position = 0;             // of the token to draw, in its request
  int32_t masked_count = 0;         // stop tokens that may not be drawn yet
  const int32_t* masked = nullptr;  // [masked_count]
  int32_t bias_count = 0;
  const int32_t* bias_ids = nullptr;  // [bias_count], distinct
  const float* bias_values = nullptr;
  // [vocabulary] or null for no penalties: how often a token was generated, and whether it is in
  // the prompt (bit 15).
  const uint16_t* token_counts = nullptr;
};

struct SampleArgs {
  const float* logits = nullptr;  // [rows, stride]
  int64_t stride = 0;
  int32_t vocab_size = 0;
  int32_t rows = 0;
  const SamplerRow* samplers = nullptr;  // [rows], device memory
  float* scratch = nullptr;              // [rows, stride]; written where bias or penalties apply
  int32_t* token_ids = nullptr;          // [rows]: -1 where the logits hold a NaN or an infinity
  float* logprobs = nullptr;             // [rows]
  int32_t* top_token_ids = nullptr;      // [rows, kMaxTopLogprobs]
  float* top_logprobs = nullptr;
};

// Draws one token for each row by the rules of cpu/sample_row.h: stop tokens masked, bias,
// penalties, then greedy (lowest id of equals), or temperature, min-p, top-k (ties of the k-th
// stay), top-p and a draw by inverse transform with the uniform of (seed, position).
//
// One block per row. Probabilities are summed as 44-bit fixed-point integers, so sums do not depend
// on their order and a row's token on nothing but its own logits and sampling. Against the float64
// sums of cpu/sample_row.h a token differs only where the draw falls within about 1e-6 of a border.
//
// Bound by the L2: greedy reads a row twice, truncation about ten times. Before grid_wait it reads
// nothing. No errors but those of the launch.
Status sample(const SampleArgs& args, const LaunchOptions& options);

}  // namespace quire
