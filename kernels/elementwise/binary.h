// Elementwise a + b, a - b, a * b, b broadcast over a's leading dimensions
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

enum class BinaryOperation { add, subtract, multiply };

/// y[i, j] = a[i, j] op b[j] for a [rows, width]: b's shape is a suffix of a's (rows = 1: equal
/// shapes; width = 1: a scalar). y may be a's array, or b's when rows = 1. Bytes: (2 rows width +
/// width) sizeof(T). Operations: rows width.
template <class T>
struct Binary {
  static constexpr std::string_view name = "binary";
  BinaryOperation operation;
  const T* a;  // [rows, width]
  const T* b;  // [width]
  T* y;        // [rows, width]
  std::int64_t rows, width;

  double bytes() const { return (2.0 * rows * width + width) * sizeof(T); }
  double operations() const { return 1.0 * rows * width; }
};

}  // namespace cmir::kernels
