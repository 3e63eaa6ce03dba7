#pragma once

#include <cstdint>
#include <vector>

namespace quire {

constexpr int32_t kMaxTopLogprobs = 20;
// In a step's token ids: the token that the device sampled for the row in its step before.
constexpr int32_t kLastSampled = -1;
// A bias of this or less bans the token.
constexpr float kBanBias = -100.0f;

// How one row's tokens are drawn; the fields mean what they mean in engine/device.ts.
struct RowSampling {
  float temperature = 0.0f;
  int32_t top_k = 0;
  float top_p = 1.0f;
  float min_p = 0.0f;
  float presence_penalty = 0.0f;
  float frequency_penalty = 0.0f;
  float repetition_penalty = 1.0f;
  uint64_t seed = 0;
  int32_t top_logprobs = -1;
  int32_t min_tokens = 0;
  std::vector<int32_t> stop_token_ids;
  std::vector<int32_t> bias_token_ids;
  std::vector<float> bias_values;

  bool has_penalties() const {
    return presence_penalty != 0.0f || frequency_penalty != 0.0f || repetition_penalty != 1.0f;
  }
};

}  // namespace quire
