#include "kernels/cublaslt.h"
#include "kernels/cuda_testing.h"
#include "kernels/skinny_linear.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

// What cublaslt.cc declares in its own words.
static_assert(CUBLAS_COMPUTE_32F == 68 && CUDA_R_32F == 0 && CUDA_R_16BF == 14);
static_assert(CUBLASLT_MATMUL_DESC_TRANSA == 3 && CUBLAS_OP_T == 1);
static_assert(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES == 1);
static_assert(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK == 3);
static_assert(CUBLASLT_REDUCTION_SCHEME_NONE == 0);
static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(quire::LinearAlgorithm));
static_assert(sizeof(cublasLtMatmulHeuristicResult_t) == 64 + 8 + 4 + 4 + 16);
#endif

namespace quire {
namespace {

using namespace quire::testing;

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;
constexpr int kTokens = 192, kRows = 4096, kColumns = 4096;

TEST(finds_an_algorithm_with_the_bits_of_skinny_linear) {
  const auto weights = upload(random_bf16(int64_t{kRows} * kColumns, 0.02f, 61));
  const auto input = upload(random_bf16(int64_t{kTokens} * kColumns, 1.0f, 62));
  const auto expected = poisoned<Bf16>(int64_t{kTokens} * kRows);
  const auto output = poisoned<Bf16>(int64_t{kTokens} * kRows);
  const auto workspace = poisoned<char>(kWorkspaceBytes);
  std::unique_ptr<CublasLt> library;
  const Status opened = CublasLt::open(workspace.data(), kWorkspaceBytes, &library);
  if (!opened.ok()) {
    std::printf("skipped: %s\n", opened.message().c_str());
    EXPECT(opened.code() == Code::kUnavailable);
    return;
  }
  SkinnyMatrix matrix;
  SkinnyInput activations;
  EXPECT_OK(make_skinny_matrix(weights.data(), kRows, kColumns, &matrix));
  EXPECT_OK(make_skinny_input(input.data(), kTokens, kColumns, &activations));
  SkinnyLinearArgs args;
  args.matrix = &matrix;
  args.input = &activations;
  args.tokens = kTokens;
  args.output = expected.data();
  args.output_stride = kRows;
  EXPECT_OK(skinny_linear(args, {}));
  AlgorithmChoice choice;
  EXPECT_OK(choose_algorithm(*library, {kTokens, kRows, kColumns},
                             {input.data(), weights.data(), output.data()}, expected.data(),
                             nullptr, &choice));
  std::printf("     %d of %d algorithms have the same bits\n", choice.equal, choice.tried);
  EXPECT(choice.found);
  if (!choice.found) return;
  EXPECT_OK(library->run({kTokens, kRows, kColumns}, choice.algorithm,
                         {input.data(), weights.data(), output.data()}, nullptr));
  EXPECT_EQ(differing(download(output).data(), download(expected).data(), int64_t{kTokens} * kRows),
            0);
}

}  // namespace
}  // namespace quire

int main() { return quire::testing::run_on_device(); }
