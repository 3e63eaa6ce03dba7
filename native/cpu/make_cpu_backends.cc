#include <algorithm>
#include <memory>

#include "cpu/cpu_backend.h"

namespace quire {

Status make_backends(const ModelSpec& spec, const std::vector<RankShape>& shapes,
                     const StepLimits& limits, const BackendOptions& options,
                     std::vector<std::unique_ptr<Backend>>* backends) {
  const cpu::KernelTable* table = cpu::kernel_table(options.cpu_isa.c_str());
  if (table == nullptr) {
    return {Code::kUnavailable,
            "this processor cannot run the CPU kernels '" + options.cpu_isa + "'"};
  }
  const auto rank_count = static_cast<int32_t>(shapes.size());
  const int32_t threads =
      options.thread_count > 0 ? options.thread_count : cpu::available_threads();
  const auto compute = options.float32 ? cpu::Compute::kFloat32 : cpu::Compute::kBFloat16;
  const auto rows = std::make_shared<cpu::CpuRows>(limits, spec.vocab_size);
  const auto group = std::make_shared<cpu::RankGroup>(rank_count);
  for (const RankShape& shape : shapes) {
    backends->push_back(std::make_unique<cpu::CpuBackend>(
        spec, shape, limits, *table, compute,
        std::clamp(threads / rank_count, 1, cpu::ThreadPool::kMaxThreads), rows, group));
  }
  return {};
}

}  // namespace quire
