#pragma once

#include <cstdint>
#include <string>

namespace quire {

// The fields mean what they mean in engine/device.ts.
struct DeviceOptions {
  int32_t tensor_parallel = 1;
  int32_t threads = 0;
  std::string cpu_isa = "auto";
  std::string dtype = "auto";
  int32_t block_size = 16;
  int32_t max_model_len = 0;
  int32_t max_rows = 0;
  int32_t max_batched_tokens = 0;
  int32_t block_count = 0;
  int64_t memory_bytes = 0;
};

}  // namespace quire
