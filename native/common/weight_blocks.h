#pragma once

#include <cstddef>
#include <cstdint>

#include "common/weight_type.h"

// GGUF's block formats as numbers. Little endian; f16 is IEEE half; a row is whole blocks without
// padding, and blocks are only 2-byte aligned. Layout of one block, in bytes:
//
//   Q4_0   d f16, 16 B nibbles                  element i < 16 is the low nibble of byte i, i >= 16
//   Q4_1   d f16, m f16, 16 B nibbles           the high nibble of byte i - 16
//   Q5_0   d f16, u32 fifth bits, 16 B nibbles
//   Q5_1   d f16, m f16, u32 fifth bits, 16 B nibbles
//   Q8_0   d f16, 32 x i8
//   Q4_K   d f16, dmin f16, 12 B of 6-bit scales and minima, 128 B nibbles
//   Q5_K   d f16, dmin f16, 12 B of 6-bit scales and minima, 32 B fifth bits, 128 B nibbles
//   Q6_K   128 B low nibbles, 64 B of upper bit pairs, 16 x i8 scales, d f16
namespace quire {

// IEEE half and bfloat16 as float, exactly.
float float_from_half(uint16_t bits);
float float_from_bfloat16(uint16_t bits);

// The nearest bfloat16, ties to even; NaN stays NaN.
uint16_t bfloat16_from_float(float value);

// Bytes of `count` elements, a whole number of blocks. As row_bytes, but compiled once: for files
// that are compiled with an instruction tier's flags.
int64_t stored_bytes(WeightType type, int64_t count);

// Writes `count` elements stored as `type` at `source` to `output` as float32. Every value takes at
// most one rounding, so the result is the same on every machine. `count` is a multiple of
// block_shape(type).elements.
void dequantize(WeightType type, const std::byte* source, int64_t count, float* output);

}  // namespace quire
