#pragma once

#include <cuda_runtime.h>

#include <string>

#include "common/status.h"

namespace quire {

// What a CUDA call returned; `what` names the call or the kernel.
inline Status from_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  const Code code = error == cudaErrorMemoryAllocation ? Code::kOutOfMemory : Code::kDeviceFailed;
  return {code,
          std::string(what) + ": " + cudaGetErrorName(error) + ", " + cudaGetErrorString(error)};
}

}  // namespace quire
