#pragma once

#include "cpu/kernels.h"

// The tables that dispatch.cc chooses from, one per translation unit of native/cpu/tier_*.cc. Each
// may be read on any processor; calling its functions needs the tier's instructions.
namespace quire::cpu {

extern const KernelTable kRefTable;
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512Table;
extern const KernelTable kBf16Table;

// How a packed matrix is laid out. All layouts are panels of kPanelRows rows, one after the other,
// each of the same size; "r" is the row inside the panel.
enum Packing : int32_t {
  kFloat32Panels,  // [column][r] float
  kBf16Panels,     // [column / 2][r][column % 2] bfloat16, an odd last column padded with zero
  kInt4Blocks,     // per 32 columns: [4][r][4] bytes of nibbles, [r] f16 scale, [r] f16 offset
  kInt8Blocks,     // per 32 columns: [8][r][4] bytes, [r] f16 scale
};

}  // namespace quire::cpu
