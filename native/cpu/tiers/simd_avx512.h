#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// Sixteen lanes in one 512-bit register: the vocabulary in which the kernels of the SIMD tiers are
// written. simd_avx2.h says the same with two 256-bit registers. Everything has internal linkage,
// so that no copy compiled with these instructions can be called elsewhere.
namespace quire::cpu {
namespace {

using Floats = __m512;
using Ints = __m512i;

// The largest products kept in registers: panels x tokens (panel_product.h).
constexpr int kFourPanelTokens = 5;
constexpr int kTwoPanelTokens = 12;
constexpr int kManyTokensPanels = 2;
constexpr int kManyTokens = 12;
constexpr int kBlockTokens = 8;  // block_product.h

inline __mmask16 first_lanes(int32_t count) { return static_cast<__mmask16>((1u << count) - 1); }

// Asks for a cache line that will be read soon. Any address is fine.
inline void prefetch(const std::byte* line) { _mm_prefetch(line, _MM_HINT_T0); }

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats broadcast(float value) { return _mm512_set1_ps(value); }
inline Floats load(const void* from) { return _mm512_loadu_ps(from); }
// The first `count` < 16 lanes; `fill` in the others.
inline Floats load_first(const float* from, int32_t count, float fill) {
  return _mm512_mask_loadu_ps(broadcast(fill), first_lanes(count), from);
}
inline void store(float* to, Floats a) { _mm512_storeu_ps(to, a); }
inline void store_first(float* to, int32_t count, Floats a) {
  _mm512_mask_storeu_ps(to, first_lanes(count), a);
}

inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
inline Floats subtract(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
inline Floats multiply(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
inline Floats divide(Floats a, Floats b) { return _mm512_div_ps(a, b); }
// a * b + c, rounded once.
inline Floats multiply_add(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
inline Floats maximum(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats minimum(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats absolute(Floats a) { return _mm512_abs_ps(a); }
inline Floats round_to_even(Floats a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// Lane by lane: a < b ? x : y. A NaN is not less.
inline Floats select_less(Floats a, Floats b, Floats x, Floats y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
inline bool any_equal(Floats a, Floats b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ) != 0; }
// 2 to the power of whole numbers in [-126, 127].
inline Floats power_of_two(Floats whole) {
  const Ints exponent = _mm512_add_epi32(_mm512_cvtps_epi32(whole), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
}
// 0, 1, ... 15.
inline Floats lane_numbers() {
  return _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
}
// Halves are folded onto each other, so the order of the sum is fixed.
inline float sum_of_lanes(Floats a) { return _mm512_reduce_add_ps(a); }
inline float max_of_lanes(Floats a) { return _mm512_reduce_max_ps(a); }

inline Floats floats_from_halves(const void* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(from)));
}

// Sixteen pairs of bfloat16: the first of each pair, and the second.
inline void load_pairs(const std::byte* from, Floats* first, Floats* second) {
  const Ints pairs = _mm512_loadu_si512(from);
  *first = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
  *second = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(-65536)));
}

// The nearest bfloat16, ties to even, of numbers that are not NaN.
inline void store_bfloat16(uint16_t* to, Floats a) {
  const Ints word = _mm512_castps_si512(a);
  const Ints odd = _mm512_and_si512(_mm512_srli_epi32(word, 16), _mm512_set1_epi32(1));
  const Ints rounded = _mm512_add_epi32(word, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

// Sixteen rounded numbers in [-127, 127] as bytes.
inline void store_bytes(int8_t* to, Floats a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

inline Ints load_ints(const void* from) { return _mm512_loadu_si512(from); }
inline Ints broadcast_int(const void* from) {
  int32_t value;
  __builtin_memcpy(&value, from, sizeof(value));
  return _mm512_set1_epi32(value);
}
inline Ints zero_ints() { return _mm512_setzero_si512(); }
inline Ints add_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
inline Ints low_nibbles(Ints a) { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
inline Ints high_nibbles(Ints a) { return low_nibbles(_mm512_srli_epi16(a, 4)); }
inline Floats floats_from(Ints a) { return _mm512_cvtepi32_ps(a); }

#if defined(__AVX512VNNI__)
// Signed weights are kept as weight + 128, and 128 * sum(activation) is taken off at the start.
constexpr uint8_t kSignedWeightFlip = 0x80;
constexpr int32_t kSignedWeightBias = 128;
// Each lane: sum += four unsigned bytes of `weights` times four signed bytes of `activation`.
inline Ints dot_nibbles(Ints sum, Ints weights, Ints activation) {
  return _mm512_dpbusd_epi32(sum, weights, activation);
}
inline Ints dot_bytes(Ints sum, Ints weights, Ints activation) {
  return _mm512_dpbusd_epi32(sum, weights, activation);
}
#else
constexpr uint8_t kSignedWeightFlip = 0;
constexpr int32_t kSignedWeightBias = 0;
inline Ints dot_nibbles(Ints sum, Ints weights, Ints activation) {
  const Ints pairs = _mm512_maddubs_epi16(weights, activation);
  return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
// The sign moves to the activation: 128 * 127 * 2 still fits 16 bits.
inline Ints dot_bytes(Ints sum, Ints weights, Ints activation) {
  const Ints turned =
      _mm512_mask_sub_epi8(activation, _mm512_movepi8_mask(weights), zero_ints(), activation);
  return dot_nibbles(sum, _mm512_abs_epi8(weights), turned);
}
#endif

}  // namespace
}  // namespace quire::cpu
