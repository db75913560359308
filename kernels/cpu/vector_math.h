// Branch-free elementary functions that the compiler vectorises, for use inside CPU kernels. The
// f64 versions call the C library: f64 is the checked path, not the fast one. Each comment gives
// the largest relative error against the C library's double result, measured by
// tests/kernels/vector_math_test.cpp over the function's range.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace cmir::kernels::cpu {

/// The integer nearest to x (ties to even) as a float and as an int, for |x| <= 2^21: adding 1.5 *
/// 2^23 rounds in the last place. Unlike nearbyint and a cast it vectorises on every x86-64, and a
/// NaN is no undefined behaviour.
[[gnu::always_inline]] inline float round_to_int(float x, std::int32_t& integer) {
  constexpr float kMagic = 12582912.0F;
  const float shifted = x + kMagic;
  integer = std::bit_cast<std::int32_t>(shifted) - std::bit_cast<std::int32_t>(kMagic);
  return shifted - kMagic;
}

/// exp(x) for f32: 2^n times a degree-6 polynomial on |r| <= ln(2)/2 (Cody-Waite reduction).
/// Relative error <= 2e-7. -inf and anything below -87.3 give 0 (no denormals), above 88.72
/// infinity, NaN gives NaN.
[[gnu::always_inline]] inline float exp(float x) {
  constexpr float kMagic = 12582912.0F;  // as in round_to_int; its bits << 23 are 0
  const float shifted = x * 1.44269504F + kMagic;
  const float n = shifted - kMagic;
  float r = x - n * 0.693359375F;
  r = r - n * -2.12194440e-4F;
  float p = 0.001392625083F;  // a fit to (exp(r) - 1 - r) / r^2 at Chebyshev nodes
  p = p * r + 0.008363232884F;
  p = p * r + 0.04166655421F;
  p = p * r + 0.1666657667F;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  // Between the limits p 2^n is a normal number: n goes to p's exponent. Beyond them what comes of
  // it is not taken.
  const auto value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(p) +
                                          (std::bit_cast<std::uint32_t>(shifted) << 23));
  const float high = x <= 88.72284F ? value : x * std::numeric_limits<float>::infinity();
  return x < -87.3F ? 0.0F : high;
}
[[gnu::always_inline]] inline double exp(double x) { return std::exp(x); }

/// ln(x) for f32: exponent and mantissa in [sqrt(1/2), sqrt(2)), then the atanh series. Relative
/// error <= 2e-7 where |ln x| > 0.1, absolute error <= 2e-8 nearer to 1. 0 and denormals give -inf,
/// negative numbers and NaN give NaN, infinity itself.
[[gnu::always_inline]] inline float log(float x) {
  const auto bits = std::bit_cast<std::int32_t>(x);
  const std::int32_t exponent = (bits - 0x3F3504F3) >> 23;
  const auto mantissa = std::bit_cast<float>(static_cast<std::uint32_t>(bits) -
                                             (static_cast<std::uint32_t>(exponent) << 23));
  const float s = (mantissa - 1.0F) / (mantissa + 1.0F);
  const float z = s * s;
  float p = 2.0F / 11;
  p = p * z + 2.0F / 9;
  p = p * z + 2.0F / 7;
  p = p * z + 2.0F / 5;
  p = p * z + 2.0F / 3;
  p = p * z * s + 2.0F * s;
  const auto e = static_cast<float>(exponent);
  const float value = e * 0.693359375F + (e * -2.12194440e-4F + p);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float low = x < std::numeric_limits<float>::min() ? -kInfinity : value;
  const float high = x == kInfinity ? kInfinity : low;
  return x >= 0.0F ? high : std::numeric_limits<float>::quiet_NaN();
}
[[gnu::always_inline]] inline double log(double x) { return std::log(x); }

/// ln(1 + x) for x in [0, 1]: 2 atanh(x / (2 + x)), a polynomial in the square of that. Relative
/// error <= 3e-7, also where x is tiny.
[[gnu::always_inline]] inline float log1p_unit(float x) {
  const float s = x / (2.0F + x);
  const float z = s * s;
  float p = 0.2815777836F;
  p = p * z + 0.2796515775F;
  p = p * z + 0.4002459523F;
  p = p * z + 0.6666632164F;
  return p * z * s + 2.0F * s;
}
[[gnu::always_inline]] inline double log1p_unit(double x) { return std::log1p(x); }

/// 1 / (1 + exp(-x)), without overflow on either side. Relative error <= 4e-7; below -87.3 it is 0.
template <class T>
[[gnu::always_inline]] inline T sigmoid(T x) {
  const T e = cpu::exp(-std::abs(x));
  const T r = T{1} / (T{1} + e);
  return x < T{0} ? e * r : r;
}

/// ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|)). Relative error <= 4e-7; below -87.3 it is 0.
template <class T>
[[gnu::always_inline]] inline T softplus(T x) {
  const T positive = x < T{0} ? T{0} : x;
  return positive + cpu::log1p_unit(cpu::exp(-std::abs(x)));
}

/// tanh(x) for f32: an odd polynomial up to 0.625, beyond it 1 - 2 / (exp(2|x|) + 1). Relative
/// error <= 3e-7.
[[gnu::always_inline]] inline float tanh(float x) {
  const float magnitude = std::abs(x);
  const float e = cpu::exp(-2.0F * magnitude);
  const float far = (1.0F - e) / (1.0F + e);
  const float z = x * x;
  float p = -0.005657135184F;
  p = p * z + 0.02058819145F;
  p = p * z - 0.05372010766F;
  p = p * z + 0.1333111406F;
  p = p * z - 0.3333325986F;
  const float near = p * z * x + x;
  return magnitude < 0.625F ? near : std::copysign(far, x);
}
[[gnu::always_inline]] inline double tanh(double x) { return std::tanh(x); }

/// The standard normal distribution function Phi(x) and density phi(x) = exp(-x^2/2) / sqrt(2 pi),
/// which gelu and its derivative need together. f32: the tail Phi(-|x|) = exp(-x^2/2) t P(t), t = 1
/// / (1 + 0.24 |x|), P a degree-9 fit to erfc, so that the left tail keeps its leading digits.
/// Relative error of both <= (3 + x^2/2) 2e-7; 0 beyond |x| = 13.2 on the left.
[[gnu::always_inline]] inline float normal_cdf(float x, float& density) {
  const float e = cpu::exp(-0.5F * x * x);
  const float t = 1.0F / (1.0F + 0.24F * std::abs(x));
  float p = 0.02559860342F;
  p = p * t - 0.1250756752F;
  p = p * t + 0.20662138F;
  p = p * t - 0.1459475787F;
  p = p * t + 0.1429796272F;
  p = p * t + 0.02726053434F;
  p = p * t + 0.08809751819F;
  p = p * t + 0.08885675304F;
  p = p * t + 0.09586732188F;
  p = p * t + 0.09574151729F;
  const float tail = p * t * e;
  density = e * 0.398942280F;
  return x < 0.0F ? tail : 1.0F - tail;
}
[[gnu::always_inline]] inline double normal_cdf(double x, double& density) {
  density = std::exp(-0.5 * x * x) * 0.39894228040143267794;
  return 0.5 * std::erfc(-x * 0.70710678118654752440);
}

/// cos and sin of 2 pi u for u in [0, 1), by reduction to |t| <= 1/8 turn and Taylor polynomials.
/// Absolute error <= 2e-7.
[[gnu::always_inline]] inline void cos_sin_turn(float u, float& cosine, float& sine) {
  std::int32_t quarter;  // 0 .. 4
  const float t = (u - round_to_int(u * 4.0F, quarter) * 0.25F) * 6.28318531F;
  const float z = t * t;
  const float s = t + t * z * (-0.1666666465F + z * (0.008332745936F + z * -0.0001958738707F));
  const float c = 1.0F + z * (-0.5F + z * (1.0F / 24 + z * (-1.0F / 720 + z * (1.0F / 40320))));
  const std::int32_t q = quarter & 3;
  const float swapped_c = (q & 1) != 0 ? s : c;
  const float swapped_s = (q & 1) != 0 ? c : s;
  cosine = (q == 1 || q == 2) ? -swapped_c : swapped_c;
  sine = (q >= 2) ? -swapped_s : swapped_s;
}

}  // namespace cmir::kernels::cpu
