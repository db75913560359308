// Branch-free elementary functions that the compiler vectorises, for use inside CPU kernels. The f64 versions call the C
// library: f64 is the checked path, not the fast one. Each comment gives the largest relative error against the C library's
// double result, measured by tests/kernels/vector_math_test.cpp over the function's range.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace cmir::kernels::cpu {

/// exp(x) for f32: 2^n times a degree-6 polynomial on |r| <= ln(2)/2 (Cody-Waite reduction). Relative error <= 2e-7.
/// -inf and anything below -87.3 give 0 (no denormals), above 88.7 infinity, NaN gives NaN.
[[gnu::always_inline]] inline float exp(float x) {
  const float clamped = x < -88.0F ? -88.0F : (x > 88.8F ? 88.8F : x);
  const float n = std::nearbyint(clamped * 1.44269504F);
  float r = clamped - n * 0.693359375F;
  r = r - n * -2.12194440e-4F;
  float p = 1.0F / 720;
  p = p * r + 1.0F / 120;
  p = p * r + 1.0F / 24;
  p = p * r + 1.0F / 6;
  p = p * r + 0.5F;
  p = p * r + 1.0F;
  p = p * r + 1.0F;
  // Two factors, since 2^128 is no f32: n is in -127 .. 128.
  const auto half = static_cast<std::int32_t>(n) / 2;
  const auto rest = static_cast<std::int32_t>(n) - half;
  const float scale = std::bit_cast<float>((half + 127) << 23);
  const float scale2 = std::bit_cast<float>((rest + 127) << 23);
  const float value = p * scale * scale2;
  const float low = x < -87.3F ? 0.0F : value;
  const float high = x > 88.72284F ? std::numeric_limits<float>::infinity() : low;
  return x != x ? x : high;
}
[[gnu::always_inline]] inline double exp(double x) { return std::exp(x); }

/// ln(x) for finite positive normal f32: exponent and mantissa in [sqrt(1/2), sqrt(2)), then atanh series. Relative error <= 2e-7
/// where |ln x| > 0.1, absolute error <= 2e-8 nearer to 1.
[[gnu::always_inline]] inline float log(float x) {
  const auto bits = std::bit_cast<std::int32_t>(x);
  const std::int32_t exponent = (bits - 0x3F3504F3) >> 23;
  const float mantissa = std::bit_cast<float>(bits - (exponent << 23));
  const float s = (mantissa - 1.0F) / (mantissa + 1.0F);
  const float z = s * s;
  float p = 2.0F / 11;
  p = p * z + 2.0F / 9;
  p = p * z + 2.0F / 7;
  p = p * z + 2.0F / 5;
  p = p * z + 2.0F / 3;
  p = p * z * s + 2.0F * s;
  const auto e = static_cast<float>(exponent);
  return e * 0.693359375F + (e * -2.12194440e-4F + p);
}
[[gnu::always_inline]] inline double log(double x) { return std::log(x); }

/// 1 / (1 + exp(-x)), without overflow on either side.
template <class T>
[[gnu::always_inline]] inline T sigmoid(T x) {
  const T e = cpu::exp(-std::abs(x));
  const T r = T{1} / (T{1} + e);
  return x >= T{0} ? r : e * r;
}

/// ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|)).
template <class T>
[[gnu::always_inline]] inline T softplus(T x) {
  const T positive = x > T{0} ? x : T{0};
  return positive + cpu::log(T{1} + cpu::exp(-std::abs(x)));
}

/// cos and sin of 2 pi u for u in [0, 1), by reduction to |t| <= 1/8 turn and Taylor polynomials. Absolute error <= 2e-7.
[[gnu::always_inline]] inline void cos_sin_turn(float u, float& cosine, float& sine) {
  const float quarter = std::nearbyint(u * 4.0F);  // 0 .. 4
  const float t = (u - quarter * 0.25F) * 6.28318531F;
  const float z = t * t;
  const float s = t * (1.0F + z * (-1.0F / 6 + z * (1.0F / 120 + z * (-1.0F / 5040))));
  const float c =
      1.0F + z * (-0.5F + z * (1.0F / 24 + z * (-1.0F / 720 + z * (1.0F / 40320))));
  const auto q = static_cast<std::int32_t>(quarter) & 3;
  const float swapped_c = (q & 1) != 0 ? s : c;
  const float swapped_s = (q & 1) != 0 ? c : s;
  cosine = (q == 1 || q == 2) ? -swapped_c : swapped_c;
  sine = (q >= 2) ? -swapped_s : swapped_s;
}

}  // namespace cmir::kernels::cpu
