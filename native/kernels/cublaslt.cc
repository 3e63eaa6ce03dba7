#include "kernels/cublaslt.h"

#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "common/cuda_status.h"

namespace quire {
namespace {

// The part of cublasLt.h that is used, in our own words; cublaslt_test.cu holds it against the real
// header where there is one.
using Handle = void*;
using Descriptor = void*;

struct Heuristic {
  LinearAlgorithm algorithm;
  size_t workspace_bytes;
  int state;
  float waves;
  int reserved[4];
};

constexpr int kComputeFloat32 = 68;   // CUBLAS_COMPUTE_32F
constexpr int kFloat32 = 0;           // CUDA_R_32F
constexpr int kBFloat16 = 14;         // CUDA_R_16BF
constexpr int kTransposeA = 3;        // CUBLASLT_MATMUL_DESC_TRANSA
constexpr int32_t kTransposed = 1;    // CUBLAS_OP_T
constexpr int kMaxWorkspace = 1;      // CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES
constexpr int kReductionSchemes = 3;  // CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK
constexpr uint32_t kNoReduction = 0;  // CUBLASLT_REDUCTION_SCHEME_NONE

struct Functions {
  int (*create)(Handle*);
  int (*destroy)(Handle);
  int (*create_product)(Descriptor*, int compute, int scale_type);
  int (*destroy_product)(Descriptor);
  int (*set_product)(Descriptor, int attribute, const void*, size_t);
  int (*create_layout)(Descriptor*, int type, uint64_t rows, uint64_t columns, int64_t stride);
  int (*destroy_layout)(Descriptor);
  int (*create_preference)(Descriptor*);
  int (*destroy_preference)(Descriptor);
  int (*set_preference)(Descriptor, int attribute, const void*, size_t);
  int (*heuristics)(Handle, Descriptor product, Descriptor a, Descriptor b, Descriptor c,
                    Descriptor d, Descriptor preference, int limit, Heuristic*, int* found);
  int (*multiply)(Handle, Descriptor product, const void* alpha, const void* a, Descriptor,
                  const void* b, Descriptor, const void* beta, const void* c, Descriptor, void* d,
                  Descriptor, const LinearAlgorithm*, void* workspace, size_t, cudaStream_t);
};

Status check(int status, const char* what) {
  if (status == 0) return {};
  return {Code::kDeviceFailed,
          std::string("cublasLt ") + what + ": status " + std::to_string(status)};
}

template <class Function>
bool find(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

bool find_all(void* library, Functions* f) {
  return find(library, "cublasLtCreate", &f->create) &&
         find(library, "cublasLtDestroy", &f->destroy) &&
         find(library, "cublasLtMatmulDescCreate", &f->create_product) &&
         find(library, "cublasLtMatmulDescDestroy", &f->destroy_product) &&
         find(library, "cublasLtMatmulDescSetAttribute", &f->set_product) &&
         find(library, "cublasLtMatrixLayoutCreate", &f->create_layout) &&
         find(library, "cublasLtMatrixLayoutDestroy", &f->destroy_layout) &&
         find(library, "cublasLtMatmulPreferenceCreate", &f->create_preference) &&
         find(library, "cublasLtMatmulPreferenceDestroy", &f->destroy_preference) &&
         find(library, "cublasLtMatmulPreferenceSetAttribute", &f->set_preference) &&
         find(library, "cublasLtMatmulAlgoGetHeuristic", &f->heuristics) &&
         find(library, "cublasLtMatmul", &f->multiply);
}

// The library's descriptors of one shape. It counts columns first: our row-major matrices are its
// transposed ones, so it computes weights^T (as stored) times input.
class Descriptors {
 public:
  explicit Descriptors(const Functions& functions) : f_(functions) {}
  ~Descriptors() {
    if (product) f_.destroy_product(product);
    for (Descriptor layout : {weights, input, output}) {
      if (layout) f_.destroy_layout(layout);
    }
  }
  Descriptors(const Descriptors&) = delete;
  Descriptors& operator=(const Descriptors&) = delete;

  Status create(const LinearShape& shape) {
    const uint64_t rows = shape.rows, columns = shape.columns, tokens = shape.tokens;
    QUIRE_TRY(check(f_.create_product(&product, kComputeFloat32, kFloat32), "descriptor"));
    QUIRE_TRY(check(f_.set_product(product, kTransposeA, &kTransposed, sizeof(kTransposed)),
                    "descriptor"));
    QUIRE_TRY(check(f_.create_layout(&weights, kBFloat16, columns, rows, shape.columns), "layout"));
    QUIRE_TRY(check(f_.create_layout(&input, kBFloat16, columns, tokens, shape.columns), "layout"));
    return check(f_.create_layout(&output, shape.stores_float ? kFloat32 : kBFloat16, rows, tokens,
                                  shape.rows),
                 "layout");
  }

  Descriptor product = nullptr, weights = nullptr, input = nullptr, output = nullptr;

 private:
  const Functions& f_;
};

class Library final : public CublasLt {
 public:
  Library(void* library, const Functions& functions, void* workspace, int64_t workspace_bytes)
      : library_(library),
        f_(functions),
        workspace_(workspace),
        workspace_bytes_(workspace_bytes) {}
  ~Library() override {
    if (handle_) f_.destroy(handle_);
    dlclose(library_);
  }

  Status start() { return check(f_.create(&handle_), "create"); }

  Status algorithms(const LinearShape& shape, int limit,
                    std::vector<LinearAlgorithm>* found) override {
    Descriptors descriptors(f_);
    QUIRE_TRY(descriptors.create(shape));
    Descriptor preference = nullptr;
    QUIRE_TRY(check(f_.create_preference(&preference), "preference"));
    const size_t bytes = static_cast<size_t>(workspace_bytes_);
    std::vector<Heuristic> heuristics(limit);
    int count = 0;
    int status = f_.set_preference(preference, kMaxWorkspace, &bytes, sizeof(bytes));
    if (status == 0) {
      status =
          f_.set_preference(preference, kReductionSchemes, &kNoReduction, sizeof(kNoReduction));
    }
    if (status == 0) {
      status = f_.heuristics(handle_, descriptors.product, descriptors.weights, descriptors.input,
                             descriptors.output, descriptors.output, preference, limit,
                             heuristics.data(), &count);
    }
    f_.destroy_preference(preference);
    QUIRE_TRY(check(status, "heuristics"));
    found->clear();
    for (int i = 0; i < count; ++i) {
      if (heuristics[i].state == 0) found->push_back(heuristics[i].algorithm);
    }
    return {};
  }

  Status run(const LinearShape& shape, const LinearAlgorithm& algorithm,
             const LinearBuffers& buffers, cudaStream_t stream) override {
    Descriptors descriptors(f_);
    QUIRE_TRY(descriptors.create(shape));
    const float alpha = 1.0f, beta = 0.0f;
    return check(f_.multiply(handle_, descriptors.product, &alpha, buffers.weights,
                             descriptors.weights, buffers.input, descriptors.input, &beta,
                             buffers.output, descriptors.output, buffers.output, descriptors.output,
                             &algorithm, workspace_, static_cast<size_t>(workspace_bytes_), stream),
                 "multiply");
  }

 private:
  void* library_;
  const Functions f_;
  Handle handle_ = nullptr;
  void* workspace_;
  const int64_t workspace_bytes_;
};

// Median of five runs.
Status time_algorithm(CublasLt& library, const LinearShape& shape, const LinearAlgorithm& algorithm,
                      const LinearBuffers& buffers, cudaStream_t stream, double* microseconds) {
  cudaEvent_t begin = nullptr, end = nullptr;
  Status status = from_cuda(cudaEventCreate(&begin), "event");
  if (status.ok()) status = from_cuda(cudaEventCreate(&end), "event");
  std::array<float, 5> times{};
  for (float& milliseconds : times) {
    if (status.ok()) status = from_cuda(cudaEventRecord(begin, stream), "record");
    if (status.ok()) status = library.run(shape, algorithm, buffers, stream);
    if (status.ok()) status = from_cuda(cudaEventRecord(end, stream), "record");
    if (status.ok()) status = from_cuda(cudaEventSynchronize(end), "cublasLt run");
    if (status.ok()) status = from_cuda(cudaEventElapsedTime(&milliseconds, begin, end), "elapsed");
  }
  std::sort(times.begin(), times.end());
  *microseconds = 1e3 * times[2];
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  return status;
}

}  // namespace

Status CublasLt::open(void* workspace, int64_t workspace_bytes,
                      std::unique_ptr<CublasLt>* library) {
  std::string tried;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
    void* loaded = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (loaded == nullptr) {
      tried += std::string(tried.empty() ? "" : "; ") + dlerror();
      continue;
    }
    Functions functions{};
    if (!find_all(loaded, &functions)) {
      dlclose(loaded);
      return {Code::kUnavailable, std::string(name) + " lacks a function that is needed"};
    }
    auto fresh = std::make_unique<Library>(loaded, functions, workspace, workspace_bytes);
    QUIRE_TRY(fresh->start());
    *library = std::move(fresh);
    return {};
  }
  return {Code::kUnavailable, "no cublasLt: " + tried};
}

Status choose_algorithm(CublasLt& library, const LinearShape& shape, const LinearBuffers& buffers,
                        const void* expected, cudaStream_t stream, AlgorithmChoice* choice) {
  constexpr int kAsked = 16;
  *choice = {};
  std::vector<LinearAlgorithm> found;
  QUIRE_TRY(library.algorithms(shape, kAsked, &found));
  const size_t bytes =
      static_cast<size_t>(shape.tokens) * shape.rows * (shape.stores_float ? 4 : 2);
  std::vector<char> wanted(bytes), got(bytes);
  QUIRE_TRY(from_cuda(cudaMemcpy(wanted.data(), expected, bytes, cudaMemcpyDeviceToHost), "copy"));
  for (const LinearAlgorithm& algorithm : found) {
    double microseconds = 0.0;
    QUIRE_TRY(time_algorithm(library, shape, algorithm, buffers, stream, &microseconds));
    QUIRE_TRY(
        from_cuda(cudaMemcpy(got.data(), buffers.output, bytes, cudaMemcpyDeviceToHost), "copy"));
    ++choice->tried;
    if (std::memcmp(got.data(), wanted.data(), bytes) != 0) continue;
    ++choice->equal;
    if (choice->found && choice->microseconds <= microseconds) continue;
    choice->found = true;
    choice->algorithm = algorithm;
    choice->microseconds = microseconds;
  }
  return {};
}

}  // namespace quire
