#include <cstring>

#if defined(QUIRE_CPU_X86)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/kernels.h"
#include "cpu/tiers/tables.h"

namespace quire::cpu {
namespace {

struct Tier {
  const KernelTable* table;
  bool supported;
};

#if defined(QUIRE_CPU_X86)

// Asking for a feature also asks whether the operating system saves its registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl");
}

bool has_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool has_bf16() { return has_vnni() && __builtin_cpu_supports("avx512bf16"); }

// The kernel gives a process the state of the tiles only on request.
bool has_amx() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return has_vnni() && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-bf16") &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Intel's cores start a bfloat16 dot product every second cycle, and two float32 multiply-adds in
// every one: widened bfloat16 is as fast there, and keeps activations exact. AMD's are the other
// way round. `cpu_kernels --tier` compares them.
bool prefers_dot_products() { return has_bf16() && !__builtin_cpu_is("intel"); }

#endif

}  // namespace

const KernelTable* kernel_table(const char* name) {
#if defined(QUIRE_CPU_X86)
  __builtin_cpu_init();
#endif
  const Tier best_first[] = {
#if defined(QUIRE_CPU_X86)
      {&kAmxTable, has_amx()},   {&kBf16Table, prefers_dot_products()}, {&kVnniTable, has_vnni()},
      {&kBf16Table, has_bf16()}, {&kAvx512Table, has_avx512()},         {&kAvx2Table, has_avx2()},
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
