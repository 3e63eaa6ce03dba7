#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "common/status.h"

namespace quire::cpu {

// Zeroed pages of this process, given back when the owner goes. Pages cost nothing until touched.
class HostMemory {
 public:
  // kOutOfMemory when the system refuses.
  static Status map(int64_t bytes, HostMemory* memory);

  HostMemory() = default;
  HostMemory(HostMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  HostMemory& operator=(HostMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~HostMemory();

  std::byte* data() const { return data_; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Bytes that this process may still take: the smaller of what its cgroups leave and what the system
// has free, less a reserve of a tenth (at least 256 MiB) for everything outside the plan.
int64_t available_host_bytes();

}  // namespace quire::cpu
