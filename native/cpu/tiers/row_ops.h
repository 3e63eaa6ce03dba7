#pragma once

#include "cpu/kernels.h"
#include "cpu/tiers/simd.h"

// Exponentials and the operations on one row, sixteen lanes at a time. Sums run over the vectors of
// a row in order, lane by lane, and fold the lanes at the end. Internal linkage.
namespace quire::cpu {
namespace {

// Where float32 exponentials end.
constexpr float kExpMin = -87.0f;
constexpr float kExpMax = 88.0f;

// Coefficients from the highest power down.
template <int kCount>
Floats polynomial(const float (&coefficients)[kCount], Floats x) {
  Floats sum = broadcast(coefficients[0]);
#pragma GCC unroll 8
  for (int i = 1; i < kCount; ++i) sum = multiply_add(sum, x, broadcast(coefficients[i]));
  return sum;
}

// e^x to 2e-7 relative; 0 below kExpMin, e^kExpMax above it. x = n ln 2 + r, |r| <= ln 2 / 2, and
// e^r by its Taylor series, whose first term left out is r^7 / 5040 < 1.2e-7. ln 2 is taken off in
// two parts, the first short enough that n times it is exact.
Floats exponential(Floats x) {
  const Floats inside = minimum(maximum(x, broadcast(kExpMin)), broadcast(kExpMax));
  const Floats n = round_to_even(multiply(inside, broadcast(1.44269504f)));
  Floats r = multiply_add(n, broadcast(-0.693359375f), inside);
  r = multiply_add(n, broadcast(2.12194440e-4f), r);
  constexpr float kSeries[] = {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 1.0f / 2, 1.0f, 1.0f};
  const Floats series = polynomial(kSeries, r);
  return select_less(x, broadcast(kExpMin), zeros(), multiply(series, power_of_two(n)));
}

// x / (1 + e^-x). The exponential is of -|x|, which cannot overflow.
Floats times_sigmoid(Floats x, Floats exponent) {
  const Floats e = exponential(subtract(zeros(), absolute(exponent)));
  const Floats one = broadcast(1.0f);
  const Floats share = divide(select_less(exponent, zeros(), e, one), add(one, e));
  return multiply(x, share);
}

// tanh to 4e-7 relative: its series near zero, where 1 - 2 / (e^2|x| + 1) would cancel.
Floats hyperbolic_tangent(Floats x) {
  const Floats square = multiply(x, x);
  constexpr float kSeries[] = {62.0f / 2835, -17.0f / 315, 2.0f / 15, -1.0f / 3, 1.0f};
  const Floats series = polynomial(kSeries, square);
  const Floats e = exponential(multiply(absolute(x), broadcast(2.0f)));
  const Floats far = subtract(broadcast(1.0f), divide(broadcast(2.0f), add(e, broadcast(1.0f))));
  const Floats signed_far = select_less(x, zeros(), subtract(zeros(), far), far);
  return select_less(absolute(x), broadcast(0.3f), multiply(series, x), signed_far);
}

Floats capped(Floats x, float softcap) {
  return multiply(broadcast(softcap), hyperbolic_tangent(multiply(x, broadcast(1 / softcap))));
}

// output[i] = function(inputs[i]...) for a row; the last, partial vector is filled up with zeros.
template <class Function>
void map_row(const float* a, int32_t n, float* output, const Function& function) {
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) store(output + i, function(load(a + i)));
  if (i < n) store_first(output + i, n - i, function(load_first(a + i, n - i, 0.0f)));
}

template <class Function>
void map_row(const float* a, const float* b, int32_t n, float* output, const Function& function) {
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) store(output + i, function(load(a + i), load(b + i)));
  if (i < n) {
    store_first(output + i, n - i,
                function(load_first(a + i, n - i, 0.0f), load_first(b + i, n - i, 0.0f)));
  }
}

// start, folded with every vector of the row in order; `fill` stands behind the row's end.
template <class Function>
Floats fold_row(const float* a, int32_t n, float fill, Floats start, const Function& function) {
  Floats result = start;
  int32_t i = 0;
  for (; i + 16 <= n; i += 16) result = function(result, load(a + i));
  if (i < n) result = function(result, load_first(a + i, n - i, fill));
  return result;
}

void rms_norm(const float* input, const float* weight, float offset, float epsilon, int32_t n,
              float* output) {
  const Floats squares = fold_row(input, n, 0.0f, zeros(),
                                  [](Floats sum, Floats x) { return multiply_add(x, x, sum); });
  const float mean = sum_of_lanes(squares) / static_cast<float>(n);
  const Floats scale = broadcast(1.0f / __builtin_sqrtf(mean + epsilon));
  map_row(input, weight, n, output, [&](Floats x, Floats w) {
    return multiply(multiply(x, scale), add(w, broadcast(offset)));
  });
}

void silu_mul(const float* gate, const float* up, int32_t n, float* output) {
  map_row(gate, up, n, output, [](Floats x, Floats u) { return multiply(times_sigmoid(x, x), u); });
}

// gelu_tanh(x) = x / (1 + e^-2u), u = sqrt(2 / pi) (x + 0.044715 x^3).
void gelu_mul(const float* gate, const float* up, int32_t n, float* output) {
  map_row(gate, up, n, output, [](Floats x, Floats u) {
    const Floats cubic = multiply_add(multiply(x, x), broadcast(0.044715f), broadcast(1.0f));
    const Floats exponent = multiply(multiply(x, cubic), broadcast(1.59576912f));
    return multiply(times_sigmoid(x, exponent), u);
  });
}

void add_scaled(const float* input, float scale, int32_t n, float* accumulator) {
  map_row(input, accumulator, n, accumulator,
          [&](Floats x, Floats sum) { return multiply_add(x, broadcast(scale), sum); });
}

void scale_softcap(float scale, float softcap, int32_t n, float* logits) {
  map_row(logits, n, logits, [&](Floats x) {
    const Floats scaled = multiply(x, broadcast(scale));
    return softcap == 0 ? scaled : capped(scaled, softcap);
  });
}

int32_t first_index_of(float value, const float* x, int32_t n) {
  int32_t i = 0;
  while (i + 16 <= n && !any_equal(load(x + i), broadcast(value))) i += 16;
  while (i < n && x[i] != value) ++i;
  return i < n ? i : 0;  // only NaN equals nothing
}

void max_and_logsumexp(const float* x, int32_t n, int32_t* argmax, float* logsumexp) {
  const float lowest = -__builtin_inff();
  const float largest =
      max_of_lanes(fold_row(x, n, lowest, broadcast(lowest),
                            [](Floats most, Floats value) { return maximum(value, most); }));
  const Floats sum = fold_row(x, n, lowest, zeros(), [&](Floats total, Floats value) {
    return add(total, exponential(subtract(value, broadcast(largest))));
  });
  *argmax = first_index_of(largest, x, n);
  *logsumexp = largest + __builtin_logf(sum_of_lanes(sum));
}

}  // namespace
}  // namespace quire::cpu
