#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/testing.h"
#include "common/weight_blocks.h"
#include "cpu/kernels.h"

// What the tests of the kernel tiers share: the tiers of this processor, packed matrices, errors.
namespace quire::cpu::testing {

constexpr const char* kTierNames[] = {"ref", "avx2", "avx512", "vnni", "bf16", "amx"};

// Calls function(table) for each tier that the processor has, and names those it lacks.
template <class Function>
void for_each_tier(const Function& function) {
  for (const char* name : kTierNames) {
    const KernelTable* table = kernel_table(name);
    if (table == nullptr) continue;
    const int before = quire::testing::failure_count();
    function(*table);
    if (quire::testing::failure_count() != before) std::fprintf(stderr, "in tier %s\n", name);
  }
}

inline void print_tiers() {
  std::string tested, missing;
  for (const char* name : kTierNames) {
    (kernel_table(name) == nullptr ? missing : tested) += std::string(" ") + name;
  }
  std::printf("tiers tested:%s; this processor lacks:%s\n", tested.c_str(),
              missing.empty() ? " none" : missing.c_str());
}

// Memory that ends where an unreadable page begins: reading or writing behind it is a crash.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes) {
    const int64_t page = sysconf(_SC_PAGESIZE);
    size_ = (bytes + page - 1) / page * page + page;
    void* mapped = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) std::abort();
    start_ = static_cast<std::byte*>(mapped);
    if (mprotect(start_ + size_ - page, page, PROT_NONE) != 0) std::abort();
    data_ = start_ + size_ - page - bytes;
  }
  ~Buffer() {
    if (start_ != nullptr) munmap(start_, size_);
  }
  Buffer(Buffer&& other) noexcept { *this = std::move(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(start_, other.start_);
    std::swap(size_, other.size_);
    std::swap(data_, other.data_);
    return *this;
  }

  std::byte* get() const { return data_; }

 private:
  std::byte* start_ = nullptr;
  int64_t size_ = 0;
  std::byte* data_ = nullptr;
};

// 64-byte aligned memory filled with a byte pattern, so that what is not written shows.
inline Buffer buffer(int64_t bytes, int fill = 0xff) {
  const int64_t size = (bytes + 63) / 64 * 64;
  Buffer made(size);
  std::memset(made.get(), fill, size);
  return made;
}

// A copy of floats with the unreadable page right behind the last one.
inline Buffer guarded_copy(const float* values, int64_t count) {
  Buffer copy(count * static_cast<int64_t>(sizeof(float)));
  std::memcpy(copy.get(), values, count * sizeof(float));
  return copy;
}

inline std::vector<float> random_floats(int64_t count, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

// A matrix in a tier's packing and the float32 values that its source stands for.
struct PackedMatrix {
  Matrix matrix;
  Buffer memory;
  std::vector<float> values;  // [rows, columns]
};

// A matrix of random blocks as a checkpoint would store it: random bits, but plausible scales.
inline std::vector<std::byte> random_weights(WeightType type, int32_t rows, int32_t columns,
                                             uint32_t seed) {
  const BlockShape shape = block_shape(type);
  std::vector<std::byte> bytes(rows * row_bytes(type, columns));
  std::mt19937 generator(seed);
  const auto put_half = [&](size_t at, uint16_t bits) { std::memcpy(&bytes[at], &bits, 2); };
  const auto scale = [&] {  // within [2^-7, 2^-6), either sign
    return static_cast<uint16_t>(0x2000 | (generator() & 0x83ff));
  };
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator());
  for (size_t at = 0; at < bytes.size(); at += shape.bytes) {
    switch (type) {
      case WeightType::kF32: {
        const float value = std::normal_distribution<float>(0, 1)(generator);
        std::memcpy(&bytes[at], &value, sizeof(value));
        break;
      }
      case WeightType::kBF16:
        put_half(at, bfloat16_from_float(std::normal_distribution<float>(0, 1)(generator)));
        break;
      case WeightType::kF16: put_half(at, 0x3800 | (generator() & 0x87ff)); break;
      case WeightType::kQ6_K: put_half(at + 208, scale()); break;
      case WeightType::kQ4_0:
      case WeightType::kQ5_0:
      case WeightType::kQ8_0: put_half(at, scale()); break;
      default: put_half(at, scale()); put_half(at + 2, scale());
    }
  }
  return bytes;
}

inline PackedMatrix pack_matrix(const KernelTable& table, WeightType type, Compute compute,
                                int32_t rows, int32_t columns,
                                const std::vector<std::byte>& source) {
  PackedMatrix packed;
  const int32_t packing = table.packing_for(type, compute, rows, columns);
  packed.memory = buffer(table.packed_bytes(packing, rows, columns));
  table.pack(packing, type, source.data(), 0, rows, columns, packed.memory.get());
  packed.matrix = {packed.memory.get(), packing, rows, columns};
  packed.values.resize(static_cast<int64_t>(rows) * columns);
  dequantize(type, source.data(), static_cast<int64_t>(rows) * columns, packed.values.data());
  return packed;
}

// ||a - b|| / ||b||; NaN when anything is NaN.
inline double relative_error(const std::vector<float>& a, const std::vector<double>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

inline bool same_bits(const float* a, const float* b, int64_t count) {
  return std::memcmp(a, b, count * sizeof(float)) == 0;
}

inline float rounded_to_bfloat16(float value) {
  return float_from_bfloat16(bfloat16_from_float(value));
}

}  // namespace quire::cpu::testing
