#pragma once

#include <cuda_runtime.h>

#include "common/cuda_status.h"

namespace quire {

// Where and how a kernel is launched.
struct LaunchOptions {
  cudaStream_t stream = nullptr;
  // Programmatic dependent launch: the kernel may start while its predecessor in the stream drains,
  // and waits (`grid_wait`) before it touches anything that the predecessor wrote or still reads.
  // What it reads before that wait, its header names; that must be two kernels old or older.
  bool overlaps = false;
};

// Raises the kernel's dynamic shared memory limit when it needs more than the default 48 KB.
template <class Kernel>
Status allow_shared_memory(Kernel* kernel, int bytes, const char* what) {
  return from_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                   what);
}

template <class... Parameters, class... Arguments>
Status launch(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads,
              int shared_bytes, const LaunchOptions& options, Arguments&&... arguments) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = options.stream;
  config.attrs = &attribute;
  config.numAttrs = options.overlaps ? 1 : 0;
  return from_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...),
                   name);
}

}  // namespace quire
