#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

// Sixteen lanes in two 256-bit registers: what simd_avx512.h says, for processors without it.
namespace quire::cpu {
namespace {

struct Floats {
  __m256 low, high;
};
struct Ints {
  __m256i low, high;
};

constexpr int kFourPanelTokens = 1;
constexpr int kTwoPanelTokens = 3;
constexpr int kManyTokensPanels = 1;
constexpr int kManyTokens = 6;
constexpr int kBlockTokens = 2;

inline Floats broadcast(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
// Asks for a cache line that will be read soon. Any address is fine.
inline void prefetch(const std::byte* line) { _mm_prefetch(line, _MM_HINT_T0); }

inline Floats zeros() { return broadcast(0.0f); }
inline Floats load(const void* from) {
  const auto* floats = static_cast<const float*>(from);
  return {_mm256_loadu_ps(floats), _mm256_loadu_ps(floats + 8)};
}
inline Floats load_first(const float* from, int32_t count, float fill) {
  float lanes[16];
  for (int32_t i = 0; i < 16; ++i) lanes[i] = i < count ? from[i] : fill;
  return load(lanes);
}
inline void store(float* to, Floats a) {
  _mm256_storeu_ps(to, a.low);
  _mm256_storeu_ps(to + 8, a.high);
}
inline void store_first(float* to, int32_t count, Floats a) {
  float lanes[16];
  store(lanes, a);
  for (int32_t i = 0; i < count; ++i) to[i] = lanes[i];
}

inline Floats add(Floats a, Floats b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline Floats subtract(Floats a, Floats b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Floats multiply(Floats a, Floats b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Floats divide(Floats a, Floats b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
inline Floats multiply_add(Floats a, Floats b, Floats c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Floats maximum(Floats a, Floats b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Floats minimum(Floats a, Floats b) {
  return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
inline Floats absolute(Floats a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
inline Floats round_to_even(Floats a) {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.low, kNearest), _mm256_round_ps(a.high, kNearest)};
}
inline Floats select_less(Floats a, Floats b, Floats x, Floats y) {
  return {_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
}
inline bool any_equal(Floats a, Floats b) {
  const __m256 low = _mm256_cmp_ps(a.low, b.low, _CMP_EQ_OQ);
  const __m256 high = _mm256_cmp_ps(a.high, b.high, _CMP_EQ_OQ);
  return _mm256_movemask_ps(_mm256_or_ps(low, high)) != 0;
}
inline __m256 power_of_two(__m256 whole) {
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(whole), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
inline Floats power_of_two(Floats whole) {
  return {power_of_two(whole.low), power_of_two(whole.high)};
}
inline Floats lane_numbers() {
  return {_mm256_set_ps(7, 6, 5, 4, 3, 2, 1, 0), _mm256_set_ps(15, 14, 13, 12, 11, 10, 9, 8)};
}
inline float sum_of_lanes(Floats a) {
  const __m256 eight = _mm256_add_ps(a.low, a.high);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}
inline float max_of_lanes(Floats a) {
  const __m256 eight = _mm256_max_ps(a.low, a.high);
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}

inline Floats floats_from_halves(const void* from) {
  const auto* halves = static_cast<const __m128i*>(from);
  return {_mm256_cvtph_ps(_mm_loadu_si128(halves)), _mm256_cvtph_ps(_mm_loadu_si128(halves + 1))};
}

inline Ints load_ints(const void* from) {
  const auto* ints = static_cast<const __m256i*>(from);
  return {_mm256_loadu_si256(ints), _mm256_loadu_si256(ints + 1)};
}
inline Ints broadcast_int(const void* from) {
  int32_t value;
  __builtin_memcpy(&value, from, sizeof(value));
  return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)};
}
inline Ints zero_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Ints add_ints(Ints a, Ints b) {
  return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
inline Ints low_nibbles(Ints a) {
  const __m256i mask = _mm256_set1_epi8(15);
  return {_mm256_and_si256(a.low, mask), _mm256_and_si256(a.high, mask)};
}
inline Ints high_nibbles(Ints a) {
  return low_nibbles({_mm256_srli_epi16(a.low, 4), _mm256_srli_epi16(a.high, 4)});
}
inline Floats floats_from(Ints a) {
  return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)};
}

inline void load_pairs(const std::byte* from, Floats* first, Floats* second) {
  const Ints pairs = load_ints(from);
  const __m256i upper = _mm256_set1_epi32(-65536);
  *first = {_mm256_castsi256_ps(_mm256_slli_epi32(pairs.low, 16)),
            _mm256_castsi256_ps(_mm256_slli_epi32(pairs.high, 16))};
  *second = {_mm256_castsi256_ps(_mm256_and_si256(pairs.low, upper)),
             _mm256_castsi256_ps(_mm256_and_si256(pairs.high, upper))};
}

inline __m256i rounded_upper_halves(__m256 a) {
  const __m256i word = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(word, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(word, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return _mm256_srli_epi32(rounded, 16);
}
// Packing works within 128-bit halves, so quarters are put back in order.
inline __m256i pack_in_order(__m256i low, __m256i high) {
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
}
inline void store_bfloat16(uint16_t* to, Floats a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      pack_in_order(rounded_upper_halves(a.low), rounded_upper_halves(a.high)));
}
inline void store_bytes(int8_t* to, Floats a) {
  const __m256i words = _mm256_permute4x64_epi64(
      _mm256_packs_epi32(_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)), 0xd8);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(to),
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

constexpr uint8_t kSignedWeightFlip = 0;
constexpr int32_t kSignedWeightBias = 0;

inline __m256i dot_nibbles(__m256i sum, __m256i weights, __m256i activation) {
  const __m256i pairs = _mm256_maddubs_epi16(weights, activation);
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline Ints dot_nibbles(Ints sum, Ints weights, Ints activation) {
  return {dot_nibbles(sum.low, weights.low, activation.low),
          dot_nibbles(sum.high, weights.high, activation.high)};
}
// The sign moves to the activation: 128 * 127 * 2 still fits 16 bits.
inline __m256i dot_bytes(__m256i sum, __m256i weights, __m256i activation) {
  return dot_nibbles(sum, _mm256_abs_epi8(weights), _mm256_sign_epi8(activation, weights));
}
inline Ints dot_bytes(Ints sum, Ints weights, Ints activation) {
  return {dot_bytes(sum.low, weights.low, activation.low),
          dot_bytes(sum.high, weights.high, activation.high)};
}

}  // namespace
}  // namespace quire::cpu
