// The divergence of a Gaussian with diagonal covariance from the standard normal: the variational
// upper bound of mutual information.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// *value = scale sum_ik (mu^2 + exp(logvar) - 1 - logvar) / 2, each at (i, k): with scale = 1 /
/// rows the mean of KL(N(mu_i, diag exp(logvar_i)) || N(0, I)). A row is summed in f64, then the
/// rows in order (on CUDA by one block, in a fixed order). exp overflows where logvar > 88 (f32).
/// Bytes: 2 rows width sizeof(T). Operations: about 25 per element.
template <class T>
struct PriorDivergenceForward {
  static constexpr std::string_view name = "prior_divergence_forward";
  const T* mu;      // [rows, width]
  const T* logvar;  // [rows, width]
  std::int64_t rows;
  std::int64_t width;
  double scale;
  double* row_sums;  // [rows], scratch
  T* value;          // [1]

  double bytes() const { return 2.0 * rows * width * sizeof(T); }
  double operations() const { return 25.0 * rows * width; }
};

/// With c = cotangent scale: dmu = c mu, dlogvar = c (exp(logvar) - 1) / 2. Bytes: 4 rows width
/// sizeof(T). Operations: about 25 per element.
template <class T>
struct PriorDivergenceBackward {
  static constexpr std::string_view name = "prior_divergence_backward";
  const T* mu;         // [rows, width]
  const T* logvar;     // [rows, width]
  const T* cotangent;  // [1]
  std::int64_t rows;
  std::int64_t width;
  double scale;
  T* dmu;      // [rows, width]
  T* dlogvar;  // [rows, width]

  double bytes() const { return 4.0 * rows * width * sizeof(T); }
  double operations() const { return 25.0 * rows * width; }
};

}  // namespace cmir::kernels
