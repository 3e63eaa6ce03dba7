#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/status.h"

namespace quire {

// output [tokens, rows] = input [tokens, columns] * weights [rows, columns]^T, bfloat16 row-major,
// products summed in float32.
struct LinearShape {
  int32_t tokens = 0;
  int32_t rows = 0;
  int32_t columns = 0;
  bool stores_float = false;  // float32 output
};

struct LinearBuffers {
  const __nv_bfloat16* input = nullptr;
  const __nv_bfloat16* weights = nullptr;
  void* output = nullptr;
};

// One of the library's ways to compute a shape; plain data that may be stored and copied.
struct LinearAlgorithm {
  std::array<uint64_t, 8> words;
};

// NVIDIA's matrix library, found at run time: nothing of it is needed to build. Used where there
// are too many tokens for skinny_linear, and only with algorithms that give the same bits.
class CublasLt {
 public:
  // Loads libcublasLt.so.13 or .12 from the loader's path. kUnavailable names what was tried.
  // `workspace` (256-byte aligned) outlives the object; its algorithms use it one at a time.
  static Status open(void* workspace, int64_t workspace_bytes, std::unique_ptr<CublasLt>* library);
  virtual ~CublasLt() = default;

  // Algorithms for the shape, the library's favourite first, at most `limit`; none of them splits a
  // sum over blocks.
  virtual Status algorithms(const LinearShape& shape, int limit,
                            std::vector<LinearAlgorithm>* found) = 0;
  virtual Status run(const LinearShape& shape, const LinearAlgorithm& algorithm,
                     const LinearBuffers& buffers, cudaStream_t stream) = 0;
};

struct AlgorithmChoice {
  bool found = false;  // false: no algorithm gives the expected bits
  LinearAlgorithm algorithm{};
  double microseconds = 0.0;
  int32_t tried = 0;
  int32_t equal = 0;  // of those tried
};

// The fastest algorithm whose output has exactly the bits of `expected` (device memory of the
// output's size, from skinny_linear). Blocks the calling thread.
Status choose_algorithm(CublasLt& library, const LinearShape& shape, const LinearBuffers& buffers,
                        const void* expected, cudaStream_t stream, AlgorithmChoice* choice);

}  // namespace quire
