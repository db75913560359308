// The negative log-likelihood of a Gaussian with diagonal covariance: the loss that trains q(y|x)
// for the bounds of mutual information that need one.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// *value = scale sum_ik ((y - mu)^2 exp(-logvar) + logvar + ln 2 pi) / 2, each at (i, k): with
/// scale = 1 / rows the mean of -ln N(y_i; mu_i, diag exp(logvar_i)). A row is summed in f64, then
/// the rows in order (on CUDA by one block, in a fixed order). exp overflows where logvar < -88
/// (f32). Bytes: 3 rows width sizeof(T). Operations: about 30 per element.
template <class T>
struct GaussianNllForward {
  static constexpr std::string_view name = "gaussian_nll_forward";
  const T* mu;      // [rows, width]
  const T* logvar;  // [rows, width]
  const T* y;       // [rows, width]
  std::int64_t rows;
  std::int64_t width;
  double scale;
  double* row_sums;  // [rows], scratch
  T* value;          // [1]

  double bytes() const { return 3.0 * rows * width * sizeof(T); }
  double operations() const { return 30.0 * rows * width; }
};

/// With w = exp(-logvar) and c = cotangent scale: dmu = c w (mu - y), dy = -dmu, dlogvar =
/// c (1 - w (y - mu)^2) / 2; each may be null. Bytes: up to 6 rows width sizeof(T). Operations:
/// about 30 per element.
template <class T>
struct GaussianNllBackward {
  static constexpr std::string_view name = "gaussian_nll_backward";
  const T* mu;         // [rows, width]
  const T* logvar;     // [rows, width]
  const T* y;          // [rows, width]
  const T* cotangent;  // [1]
  std::int64_t rows;
  std::int64_t width;
  double scale;
  T* dmu;      // [rows, width] or null
  T* dlogvar;  // [rows, width] or null
  T* dy;       // [rows, width] or null

  double bytes() const {
    return (3.0 + (dmu != nullptr) + (dlogvar != nullptr) + (dy != nullptr)) * rows * width *
           sizeof(T);
  }
  double operations() const { return 30.0 * rows * width; }
};

}  // namespace cmir::kernels
