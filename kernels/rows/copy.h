// Copies of matrix blocks: concatenation and slicing
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// y[i * y_stride + j] = x[i * x_stride + j] for i < rows, j < width: a block of columns of one
/// row-major matrix into another's. The blocks must not overlap. Bytes: 2 rows width sizeof(T).
/// Operations: none.
template <class T>
struct CopyColumns {
  static constexpr std::string_view name = "copy_columns";
  const T* x;
  std::int64_t x_stride;
  T* y;
  std::int64_t y_stride;
  std::int64_t rows, width;

  double bytes() const { return 2.0 * rows * width * sizeof(T); }
  double operations() const { return 0.0; }
};

}  // namespace cmir::kernels
