#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "common/device_buffer.h"
#include "kernels/launch.h"

// What the CUDA benchmarks share: random device data, timing by graph replays, ceilings of the
// card, a table on stdout and the same figures as JSON.
namespace quire::bench {

using Bf16 = __nv_bfloat16;

inline void require(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

inline void require(cudaError_t error, const char* what) { require(from_cuda(error, what)); }

// Uniform numbers in (-range, range).
static __global__ void fill_kernel(Bf16* data, int64_t count, float range, uint32_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    uint32_t x = static_cast<uint32_t>(i) * 2654435761u ^ seed;
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    x ^= x >> 16;
    data[i] = __float2bfloat16_rn((static_cast<float>(x) * 0x1.0p-31f - 1.0f) * range);
  }
}

inline DeviceBuffer<Bf16> random_device(int64_t count, float range, uint32_t seed) {
  DeviceBuffer<Bf16> buffer;
  require(buffer.allocate(count));
  fill_kernel<<<2048, 256>>>(buffer.data(), count, range, seed);
  require(cudaDeviceSynchronize(), "fill");
  return buffer;
}

template <class T>
DeviceBuffer<T> device_copy(const std::vector<T>& values) {
  DeviceBuffer<T> buffer;
  require(buffer.allocate(static_cast<int64_t>(values.size())));
  require(
      cudaMemcpy(buffer.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
      "copy");
  return buffer;
}

// Median microseconds of one replay of what `enqueue` launches.
inline double time_graph(const std::function<Status(const LaunchOptions&)>& enqueue, bool overlaps,
                         int repeats = 30) {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  cudaEvent_t begin, end;
  require(cudaStreamCreate(&stream), "stream");
  require(enqueue({stream, overlaps}));
  require(cudaStreamSynchronize(stream), "warm-up");
  require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  require(enqueue({stream, overlaps}));
  require(cudaStreamEndCapture(stream, &graph), "capture");
  require(cudaGraphInstantiate(&executable, graph, 0), "instantiate");
  require(cudaEventCreate(&begin), "event");
  require(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int i = 0; i < repeats + 3; ++i) {
    require(cudaEventRecord(begin, stream), "record");
    require(cudaGraphLaunch(executable, stream), "launch");
    require(cudaEventRecord(end, stream), "record");
    require(cudaStreamSynchronize(stream), "replay");
    float milliseconds = 0.0f;
    require(cudaEventElapsedTime(&milliseconds, begin, end), "elapsed");
    if (i >= 3) times.push_back(milliseconds);
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  return 1e3 * times[times.size() / 2];
}

// Four 16-byte loads in flight per thread; the sum keeps them alive.
static __global__ void read_kernel(const uint4* data, int64_t count, uint32_t* sink) {
  uint32_t sum = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i + 3 * step < count;
       i += 4 * step) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const uint4 x = __ldcs(data + i + j * step);
      sum ^= x.x ^ x.y ^ x.z ^ x.w;
    }
  }
  if (sum == 0x9e3779b9u) *sink = sum;
}

// Bytes per second of a read of 4 GB.
inline double read_bandwidth() {
  const int64_t bytes = int64_t{4} << 30;
  const auto data = random_device(bytes / 2, 1.0f, 1);
  DeviceBuffer<uint32_t> sink;
  require(sink.allocate(1));
  const double us = time_graph(
      [&](const LaunchOptions& options) {
        read_kernel<<<132 * 8, 512, 0, options.stream>>>(
            reinterpret_cast<const uint4*>(data.data()), bytes / 16, sink.data());
        return from_cuda(cudaGetLastError(), "read");
      },
      false);
  return static_cast<double>(bytes) / (us * 1e-6);
}

// Rows of the table, and of the JSON file when a path is given.
class Report {
 public:
  explicit Report(const char* json_path) : path_(json_path == nullptr ? "" : json_path) {
    cudaDeviceProp properties;
    require(cudaGetDeviceProperties(&properties, 0), "properties");
    card_ = properties.name;
    std::printf("card %s\n", card_.c_str());
  }
  ~Report() {
    if (path_.empty()) return;
    std::FILE* file = std::fopen(path_.c_str(), "w");
    if (file == nullptr) return;
    std::fprintf(file, "{\"card\":\"%s\",\"rows\":[\n", card_.c_str());
    for (size_t i = 0; i < rows_.size(); ++i) {
      std::fprintf(file, "%s%s\n", rows_[i].c_str(), i + 1 < rows_.size() ? "," : "");
    }
    std::fprintf(file, "]}\n");
    std::fclose(file);
  }
  Report(const Report&) = delete;
  Report& operator=(const Report&) = delete;

  // `share` of the ceiling that `unit` names: TB/s, TFLOP/s.
  void add(const std::string& name, double us, double rate, const char* unit, double share) {
    std::printf("%-44s %10.2f us %9.3f %-8s %5.1f %%\n", name.c_str(), us, rate, unit,
                100.0 * share);
    std::fflush(stdout);
    char row[256];
    std::snprintf(row, sizeof(row),
                  "{\"name\":\"%s\",\"us\":%.2f,\"rate\":%.4f,\"unit\":\"%s\",\"share\":%.4f}",
                  name.c_str(), us, rate, unit, share);
    rows_.push_back(row);
  }

 private:
  std::string path_, card_;
  std::vector<std::string> rows_;
};

}  // namespace quire::bench
