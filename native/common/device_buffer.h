#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <string>
#include <utility>

#include "common/cuda_status.h"

namespace quire {

// Device memory of `count` elements, freed with its owner; 256-byte aligned, not initialized.
template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(DeviceBuffer&& other) noexcept { swap(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    swap(other);
    return *this;
  }

  // Replaces what was allocated before. kOutOfMemory names the bytes.
  Status allocate(int64_t count) {
    DeviceBuffer fresh;
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    const std::string what = "allocating " + std::to_string(bytes) + " bytes of device memory";
    QUIRE_TRY(from_cuda(cudaMalloc(reinterpret_cast<void**>(&fresh.data_), bytes), what.c_str()));
    fresh.count_ = count;
    swap(fresh);
    return {};
  }

  T* data() const { return data_; }
  int64_t count() const { return count_; }

 private:
  void swap(DeviceBuffer& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
  }

  T* data_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace quire
