#pragma once

#include "cpu/kernels.h"

// The tables that dispatch.cc chooses from, one per translation unit of native/cpu/tiers/*.cc. Each
// may be read on any processor; calling its functions needs the tier's instructions.
namespace quire::cpu {

extern const KernelTable kRefTable;
extern const KernelTable kAvx2Table;
extern const KernelTable kAvx512Table;
extern const KernelTable kVnniTable;
extern const KernelTable kBf16Table;
extern const KernelTable kAmxTable;

// How a packed matrix is laid out. All layouts are panels of kPanelRows rows, one after the other,
// each of the same size; "r" is the row inside the panel.
enum Packing : int32_t {
  kFloat32Panels,  // [column][r] float, an odd last column followed by zeros
  kBf16Panels,  // [column / 2][r][column % 2] bfloat16, padded with zeros to whole pairs or tiles
  kInt4Blocks,  // block_product.h
  kInt8Blocks,  // block_product.h
};

}  // namespace quire::cpu
