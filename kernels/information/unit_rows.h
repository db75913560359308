// Rows divided by their Euclidean norm: what makes a dot product a cosine.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// y_i = x_i / ||x_i||, inverse_norm[i] = 1 / ||x_i||; a row of zeros stays zeros, with
/// inverse_norm 0. The norm is summed in f64, so no f32 row overflows or vanishes. Bytes: 2 rows
/// width sizeof(T) (a row of x is read once more, but from the cache). Operations: 3 per element.
/// Deterministic: a row at a time, in a fixed order.
template <class T>
struct UnitRowsForward {
  static constexpr std::string_view name = "unit_rows_forward";
  const T* x;            // [rows, width]
  T* y;                  // [rows, width]
  double* inverse_norm;  // [rows]
  std::int64_t rows;
  std::int64_t width;

  double bytes() const { return 2.0 * rows * width * sizeof(T); }
  double operations() const { return 3.0 * rows * width; }
};

/// dx_i = inverse_norm[i] (dy_i - (y_i . dy_i) y_i): 0 for a row of zeros. Bytes: 3 rows width
/// sizeof(T) (a row of y and dy once more from the cache). Operations: 5 per element.
template <class T>
struct UnitRowsBackward {
  static constexpr std::string_view name = "unit_rows_backward";
  const T* y;                  // [rows, width]
  const double* inverse_norm;  // [rows]
  const T* dy;                 // [rows, width]
  T* dx;                       // [rows, width]
  std::int64_t rows;
  std::int64_t width;

  double bytes() const { return 3.0 * rows * width * sizeof(T); }
  double operations() const { return 5.0 * rows * width; }
};

}  // namespace cmir::kernels
