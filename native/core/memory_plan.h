#pragma once

#include <cstdint>

#include "common/status.h"

namespace quire {

// What a model and its limits need, over all ranks.
struct MemoryNeeds {
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t sampler_bytes = 0;
  int64_t kv_block_bytes = 0;
  int32_t least_block_count = 1;      // that the longest request takes
  int32_t requested_block_count = 0;  // 0 takes what is left
  int64_t kv_limit_bytes = 0;         // of what is left; 0 sets no limit
};

// Every byte that the device will hold; see engine/device.ts.
struct MemoryPlan {
  int64_t weight_bytes = 0;
  int64_t workspace_bytes = 0;
  int64_t sampler_bytes = 0;
  int64_t kv_block_bytes = 0;
  int32_t block_count = 0;
  int64_t total_bytes = 0;
  int64_t available_bytes = 0;
};

// Splits `available_bytes` between what is needed and KV blocks. The longest request has its blocks
// even where they pass `kv_limit_bytes`.
//
// kOutOfMemory with a table of every need against what there is, when the blocks asked for, or
// enough for one request of the longest length, do not fit.
Status plan_memory(const MemoryNeeds& needs, int64_t available_bytes, MemoryPlan* plan);

}  // namespace quire
