// Layer normalisation of the last dimension.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// y = gamma (x - mean) rstd + beta per row, with mean = sum(x) / width and rstd = 1 / sqrt(sum((x
/// - mean)^2) / width + epsilon) (Ba, Kiros, Hinton 2016; the biased variance, as PyTorch). Two
/// passes over a row that stays in the first-level cache: the variance is of centred values, so a
/// large mean costs no accuracy. y may be x. Bytes: 2 rows width sizeof(T). Operations: about 8
/// rows width. A row's bits depend on that row only.
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

  double bytes() const { return sizeof(T) * (2.0 * rows * width + 2.0 * rows + 2.0 * width); }
  double operations() const { return 8.0 * rows * width; }
};

/// With n = (x - mean) rstd and g = gamma dy: dx = rstd (g - mean(g) - n mean(g n)); dgamma =
/// sum_rows dy n; dbeta = sum_rows dy. All three are overwritten. dgamma and dbeta are summed per
/// chunk of rows in the workspace and merged in chunk order. On CUDA the sums over rows are a
/// kernel of their own and pairwise; the second one reads x and dy again, mostly from cache. Bytes:
/// 3 rows width sizeof(T). Operations: about 14 rows width.
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
  T* workspace;  // layer_norm_backward_workspace(rows, width) elements

  double bytes() const { return sizeof(T) * (3.0 * rows * width + 2.0 * rows + 3.0 * width); }
  double operations() const { return 14.0 * rows * width; }
};

/// Rows of a chunk: at least 32, and at most 64 chunks.
inline std::int64_t layer_norm_grain(std::int64_t rows) {
  return std::max<std::int64_t>(32, (rows + 63) / 64);
}
inline std::int64_t layer_norm_backward_workspace(std::int64_t rows, std::int64_t width) {
  return chunk_count(0, rows, layer_norm_grain(rows)) * 2 * width;
}

}  // namespace cmir::kernels
