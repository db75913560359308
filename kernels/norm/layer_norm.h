// Layer normalisation of the last dimension, alone or of the sum of two arrays.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// y = gamma (s - mean) rstd + beta per row of s = x, or of s = x + residual, with mean = sum(s) /
/// width and rstd = 1 / sqrt(sum((s - mean)^2) / width + epsilon) (Ba, Kiros, Hinton 2016; the
/// biased variance, as PyTorch). Two passes over a row that stays in the first-level cache: the
/// mean is summed from the row's first value and the variance is of centred values, so a large mean
/// costs no accuracy in any order of summation. s = x + residual, rounded to T, is written where
/// `sum` is given, for backward and for whoever else needs it; elsewhere it passes through y. y may
/// be x; but with a residual neither y nor sum may be an input. Bytes: 2 rows width sizeof(T), and
/// 1 more each for residual and sum (add, then norm: 5 rows width). Operations: about 8 rows width,
/// 9 with a residual. A row's bits depend on that row only.
template <class T>
struct LayerNormForward {
  static constexpr std::string_view name = "layer_norm_forward";
  const T* x;      // [rows, width]
  const T* gamma;  // [width]
  const T* beta;   // [width]
  T epsilon;
  T* y;     // [rows, width]
  T* mean;  // [rows], saved for backward
  T* rstd;  // [rows], saved for backward
  std::int64_t rows;
  std::int64_t width;
  const T* residual = nullptr;  // [rows, width] or null
  T* sum = nullptr;             // [rows, width] or null; null without a residual

  double bytes() const {
    const double arrays = 2.0 + (residual != nullptr ? 1 : 0) + (sum != nullptr ? 1 : 0);
    return sizeof(T) * (arrays * rows * width + 2.0 * rows + 2.0 * width);
  }
  double operations() const { return (residual != nullptr ? 9.0 : 8.0) * rows * width; }
};

/// With n = (x - mean) rstd and g = gamma dy: dx = rstd (g - mean(g) - n mean(g n)), plus `arrived`
/// where that is given: the gradient of x by another way, as where x = s above is also passed on.
/// dgamma = sum_rows dy n; dbeta = sum_rows dy. All three are overwritten; dx may be arrived. Of a
/// sum x is s, and dx the gradient of both of its terms. dgamma and dbeta are summed per chunk of
/// rows in the workspace and merged in chunk order. On CUDA the sums over rows are a kernel of
/// their own and pairwise; the second one reads x and dy again, mostly from cache. Bytes: 3 rows
/// width sizeof(T), 4 with arrived. Operations: about 14 rows width, 15 with arrived.
template <class T>
struct LayerNormBackward {
  static constexpr std::string_view name = "layer_norm_backward";
  const T* x;      // [rows, width]
  const T* gamma;  // [width]
  const T* mean;   // [rows]
  const T* rstd;   // [rows]
  const T* dy;     // [rows, width]
  T* dx;           // [rows, width]
  T* dgamma;       // [width]
  T* dbeta;        // [width]
  std::int64_t rows;
  std::int64_t width;
  T* workspace;                // layer_norm_backward_workspace(rows, width) elements
  const T* arrived = nullptr;  // [rows, width] or null

  double bytes() const {
    const double arrays = arrived != nullptr ? 4.0 : 3.0;
    return sizeof(T) * (arrays * rows * width + 2.0 * rows + 3.0 * width);
  }
  double operations() const { return (arrived != nullptr ? 15.0 : 14.0) * rows * width; }
};

/// Rows of a chunk: at least 32, and at most 64 chunks.
inline std::int64_t layer_norm_grain(std::int64_t rows) {
  return std::max<std::int64_t>(32, (rows + 63) / 64);
}
inline std::int64_t layer_norm_backward_workspace(std::int64_t rows, std::int64_t width) {
  return chunk_count(0, rows, layer_norm_grain(rows)) * 2 * width;
}

}  // namespace cmir::kernels
