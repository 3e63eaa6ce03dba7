#include "core/memory_plan.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <string>

namespace quire {
namespace {

std::string table_row(const char* name, int64_t bytes) {
  char text[64];
  std::snprintf(text, sizeof(text), "\n  %-12s %12.1f MiB", name,
                static_cast<double>(bytes) / (1 << 20));
  return text;
}

std::string needs_table(const MemoryNeeds& needs, int32_t block_count, int64_t total,
                        int64_t available) {
  return table_row("weights", needs.weight_bytes) + table_row("workspace", needs.workspace_bytes) +
         table_row("sampler", needs.sampler_bytes) +
         table_row("KV cache", block_count * needs.kv_block_bytes) + " (" +
         std::to_string(block_count) + " blocks of " + std::to_string(needs.kv_block_bytes) +
         " bytes)" + table_row("needed", total) + table_row("available", available);
}

}  // namespace

Status plan_memory(const MemoryNeeds& needs, int64_t available_bytes, MemoryPlan* plan) {
  const int64_t fixed = needs.weight_bytes + needs.workspace_bytes + needs.sampler_bytes;
  const bool requested = needs.requested_block_count > 0;
  const int64_t least = requested ? needs.requested_block_count : needs.least_block_count;
  const int64_t least_total = fixed + least * needs.kv_block_bytes;
  if (least_total > available_bytes) {
    return {Code::kOutOfMemory,
            "the model does not fit into memory:" +
                needs_table(needs, static_cast<int32_t>(least), least_total, available_bytes)};
  }
  int64_t most = (available_bytes - fixed) / needs.kv_block_bytes;
  if (needs.kv_limit_bytes > 0) {
    most = std::min(most, std::max(least, needs.kv_limit_bytes / needs.kv_block_bytes));
  }
  plan->weight_bytes = needs.weight_bytes;
  plan->workspace_bytes = needs.workspace_bytes;
  plan->sampler_bytes = needs.sampler_bytes;
  plan->kv_block_bytes = needs.kv_block_bytes;
  plan->block_count = static_cast<int32_t>(
      requested ? least : std::min<int64_t>(most, std::numeric_limits<int32_t>::max()));
  plan->total_bytes = fixed + plan->block_count * needs.kv_block_bytes;
  plan->available_bytes = available_bytes;
  return {};
}

}  // namespace quire
