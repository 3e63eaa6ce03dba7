#pragma once

// The sixteen lanes of the tier that is being compiled. Only files compiled with a tier's flags may
// include this, or the headers of kernels that do: packing, linear, attention, row_ops.
#if defined(__AVX512F__)
#include "cpu/tiers/simd_avx512.h"
#elif defined(__AVX2__)
#include "cpu/tiers/simd_avx2.h"
#else
#error "no SIMD tier without AVX2"
#endif
