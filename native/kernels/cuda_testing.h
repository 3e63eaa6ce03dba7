#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "common/device_buffer.h"
#include "common/testing.h"

// What the tests of kernels share: random data, the way to the device and back, distances.
namespace quire::testing {

using Bf16 = __nv_bfloat16;

// The exit status of a test program: its tests' where there is a device, else skipped by name.
inline int run_on_device() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    std::printf("skipped: no CUDA device\n");
    return kSkipped;
  }
  return run();
}

template <class T>
DeviceBuffer<T> upload(const std::vector<T>& values) {
  DeviceBuffer<T> buffer;
  EXPECT_OK(buffer.allocate(static_cast<int64_t>(values.size())));
  EXPECT_OK(from_cuda(
      cudaMemcpy(buffer.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
      "upload"));
  return buffer;
}

// Device memory whose every bfloat16 and float is a NaN: what nobody wrote shows.
template <class T>
DeviceBuffer<T> poisoned(int64_t count) {
  DeviceBuffer<T> buffer;
  EXPECT_OK(buffer.allocate(count));
  EXPECT_OK(from_cuda(cudaMemset(buffer.data(), 0xff, count * sizeof(T)), "poison"));
  return buffer;
}

template <class T>
DeviceBuffer<T> zeros(int64_t count) {
  return upload(std::vector<T>(count));
}

template <class T>
std::vector<T> download(const DeviceBuffer<T>& buffer) {
  std::vector<T> values(buffer.count());
  EXPECT_OK(from_cuda(
      cudaMemcpy(values.data(), buffer.data(), values.size() * sizeof(T), cudaMemcpyDeviceToHost),
      "download"));
  return values;
}

// Normal numbers of the given deviation, rounded to bfloat16.
inline std::vector<Bf16> random_bf16(int64_t count, float deviation, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<Bf16> values(count);
  for (Bf16& value : values) value = __float2bfloat16(normal(generator));
  return values;
}

inline std::vector<float> random_floats(int64_t count, float mean, float deviation, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(generator);
  return values;
}

inline double to_double(Bf16 value) { return static_cast<double>(__bfloat162float(value)); }
inline double to_double(float value) { return static_cast<double>(value); }

// ||a - b|| / ||b||; NaN when an element of `a` is.
template <class T>
double relative_error(const std::vector<T>& a, const std::vector<double>& b) {
  double difference = 0.0, size = 0.0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double d = to_double(a[i]) - b[i];
    difference += d * d;
    size += b[i] * b[i];
  }
  return std::sqrt(difference / size);
}

template <class T>
int64_t differing(const T* a, const T* b, int64_t count) {
  int64_t differences = 0;
  for (int64_t i = 0; i < count; ++i) differences += std::memcmp(a + i, b + i, sizeof(T)) != 0;
  return differences;
}

// Tolerances against float64 on the same bfloat16 inputs.
constexpr double kBf16Tolerance = 4e-3;
constexpr double kAttentionTolerance = 5e-3;

}  // namespace quire::testing
