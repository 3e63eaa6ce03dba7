#include <cstring>

#include "cpu/kernels.h"
#include "cpu/tiers/tables.h"

namespace quire::cpu {
namespace {

struct Tier {
  const KernelTable* table;
  bool supported;
};

}  // namespace

const KernelTable* kernel_table(const char* name) {
#if defined(QUIRE_CPU_X86)
  __builtin_cpu_init();
  // Asking for a feature also asks whether the operating system saves its registers.
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  const bool bf16 =
      avx512 && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
#endif
  const Tier best_first[] = {
#if defined(QUIRE_CPU_X86)
      {&kBf16Table, bf16},
      {&kAvx512Table, avx512},
      {&kAvx2Table, avx2},
#endif
      {&kRefTable, true},
  };
  const bool automatic = std::strcmp(name, "auto") == 0;
  for (const Tier& tier : best_first) {
    if (tier.supported && (automatic || std::strcmp(name, tier.table->name) == 0)) {
      return tier.table;
    }
  }
  return nullptr;
}

}  // namespace quire::cpu
