// Nor(x) = (x - mean) / std along rows or columns, as CmIR's decorrelation loss needs it.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

enum class NormaliseAxis {
  rows,     ///< each row over its columns (each sample over its features)
  columns,  ///< each column over the rows (each feature over the batch)
};

/// y = (x - mean) / sqrt(variance + epsilon) along the axis; variance = sum (x - mean)^2 / n, or /
/// max(n - 1, 1) when `unbiased`. Where variance + epsilon is 0 (a constant row and epsilon 0) y is
/// 0. Two passes in f64, so a large mean costs no accuracy and no square overflows. Bytes: 2 rows
/// width sizeof(T) (x is read three times, but from cache). Operations: 7 per element.
template <class T>
struct NormaliseForward {
  static constexpr std::string_view name = "normalise_forward";
  const T* x;           // [rows, width]
  T* y;                 // [rows, width]
  double* inverse_std;  // [rows] or [width]; 0 where y is 0
  std::int64_t rows;
  std::int64_t width;
  NormaliseAxis axis;
  bool unbiased;
  double epsilon;

  double bytes() const { return 2.0 * rows * width * sizeof(T); }
  double operations() const { return 7.0 * rows * width; }
};

/// dx = cotangent factor inverse_std (dy - mean(dy) - y sum(dy y) / n'), with n' the divisor of the
/// variance. dx may be dy. Bytes: 3 rows width sizeof(T). Operations: 8 per element.
template <class T>
struct NormaliseBackward {
  static constexpr std::string_view name = "normalise_backward";
  const T* y;                 // [rows, width]
  const T* dy;                // [rows, width]
  const double* inverse_std;  // [rows] or [width]
  const T* cotangent;         // [1]
  const double* factor;       // [1]
  T* dx;                      // [rows, width]
  std::int64_t rows;
  std::int64_t width;
  NormaliseAxis axis;
  bool unbiased;

  double bytes() const { return 3.0 * rows * width * sizeof(T); }
  double operations() const { return 8.0 * rows * width; }
};

}  // namespace cmir::kernels
