#pragma once

#include <cstdint>
#include <vector>

#include "common/status.h"
#include "models/backend.h"
#include "models/decoder_weights.h"

namespace quire {

// What one rank reads, and who packs it.
struct RankWeights {
  const std::vector<WeightLoad>* loads = nullptr;
  const Backend* backend = nullptr;
};

// Bytes read so far and in all: two atomic counters that another thread may watch, or null.
using LoadProgress = int64_t*;

// Reads the byte ranges of a model's files and packs them where they belong, in pieces over
// `thread_count` threads. Each piece holds at most a few MiB outside the plan.
//
// kIo when a file cannot be opened or is shorter than a tensor in it; names the tensor, the file
// and the offset. What was packed before an error stays as it is.
Status load_weights(const std::vector<std::string>& files, const std::vector<RankWeights>& ranks,
                    int32_t thread_count, LoadProgress progress);

}  // namespace quire
