#pragma once

#include <cstdint>

// Matrix instructions of four warps, operands in shared memory in the 128-byte swizzle. Source: PTX
// ISA, "Asynchronous warpgroup level matrix instructions".
namespace quire::sm90 {

// Describes a tile whose lines are 128 bytes and whose groups of eight lines follow one another:
// 64 columns of a row-major operand, or 64 rows of a column-major one. 1024-byte aligned groups;
// `address` may point inside a line to step over columns.
__device__ inline uint64_t tile_descriptor(uint32_t address) {
  constexpr uint64_t kGroupBytes = 1024 >> 4, kSwizzle128 = uint64_t{1} << 62;
  return ((address & 0x3ffff) >> 4) | (kGroupBytes << 16) | (kGroupBytes << 32) | kSwizzle128;
}

// Before the first instruction that uses registers written by others.
__device__ inline void warpgroup_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ inline void warpgroup_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Returns when at most `kPending` of the committed groups still run.
template <int kPending>
__device__ inline void warpgroup_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Keeps the compiler from moving accesses of accumulators across an instruction that runs on.
template <int kCount>
__device__ inline void keep_in_place(float (&values)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(values[i])::"memory");
}

// Changes the registers of this warpgroup's threads, a multiple of 8; all its warps call it.
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

#define QUIRE_ACCUMULATORS                                                                      \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define QUIRE_ACCUMULATOR_OPERANDS(c)                                                             \
  "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]), "+f"(c[7]), \
      "+f"(c[8]), "+f"(c[9]), "+f"(c[10]), "+f"(c[11]), "+f"(c[12]), "+f"(c[13]), "+f"(c[14]),    \
      "+f"(c[15]), "+f"(c[16]), "+f"(c[17]), "+f"(c[18]), "+f"(c[19]), "+f"(c[20]), "+f"(c[21]),  \
      "+f"(c[22]), "+f"(c[23]), "+f"(c[24]), "+f"(c[25]), "+f"(c[26]), "+f"(c[27]), "+f"(c[28]),  \
      "+f"(c[29]), "+f"(c[30]), "+f"(c[31])

// c[64, 64] = a[64, 16] * b[64, 16]^T (+ c), both row-major. Warp w of the group holds rows 16w to
// 16w + 15; c[4 n ..] is the fragment of sm90::mma for columns 8n to 8n + 7.
__device__ inline void warpgroup_mma(float (&c)[32], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " QUIRE_ACCUMULATORS
      ", %32, %33, p, 1, 1, 0, 0;\n}\n"
      : QUIRE_ACCUMULATOR_OPERANDS(c)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
}

// c[64, 64] += a[64, 16] * b[16, 64]: `a` in registers, `b` stored row by row (64 columns a line).
__device__ inline void warpgroup_mma(float (&c)[32], const uint32_t (&a)[4], uint64_t b) {
  asm volatile("wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " QUIRE_ACCUMULATORS
               ", {%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n"
               : QUIRE_ACCUMULATOR_OPERANDS(c)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef QUIRE_ACCUMULATORS
#undef QUIRE_ACCUMULATOR_OPERANDS

}  // namespace quire::sm90
