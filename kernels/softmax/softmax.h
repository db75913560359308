// Softmax of the last dimension, with an optional length per row.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// y[r, j] = exp(x[r, j] - max) / sum over j < lengths[r], and 0 for j >= lengths[r]. The maximum
/// is subtracted, so no logit overflows. A row of length 0, or whose logits are all -inf, gives
/// zeros. NaN or +inf gives a row of NaN. y may be x. Bytes: 2 rows width sizeof(T). Operations:
/// about 20 rows width (an exp is about 15).
template <class T>
struct SoftmaxForward {
  static constexpr std::string_view name = "softmax_forward";
  const T* x;                   // [rows, width]
  const std::int64_t* lengths;  // [rows], each in 0 .. width; or null: all are width
  T* y;                         // [rows, width], saved for backward
  std::int64_t rows;
  std::int64_t width;

  double bytes() const { return 2.0 * sizeof(T) * rows * width; }
  double operations() const { return 20.0 * rows * width; }
};

/// dx = y (dy - sum_j y_j dy_j): 0 wherever y is 0, so past a row's length too. dx may be dy. dx is
/// overwritten. Bytes: 3 rows width sizeof(T). Operations: 4 rows width.
template <class T>
struct SoftmaxBackward {
  static constexpr std::string_view name = "softmax_backward";
  const T* y;                   // [rows, width]
  const std::int64_t* lengths;  // [rows] or null
  const T* dy;                  // [rows, width]
  T* dx;                        // [rows, width]
  std::int64_t rows;
  std::int64_t width;

  double bytes() const { return 3.0 * sizeof(T) * rows * width; }
  double operations() const { return 4.0 * rows * width; }
};

inline std::int64_t softmax_grain(std::int64_t width) {
  return std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, width));
}

}  // namespace cmir::kernels
