// Sums of a matrix over everything, over its rows, or over its columns; and their adjoint
#pragma once

#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// y = scale * sum_i x[i]; 0 when count is 0. Accumulated in f64, per chunk, the chunks in order
/// (on CUDA by the threads of a block in a fixed order, both times): deterministic. Bytes: count
/// sizeof(T). Operations: count.
template <class T>
struct SumAll {
  static constexpr std::string_view name = "sum_all";
  double scale;
  const T* x;         // [count]
  T* y;               // [1], overwritten
  double* workspace;  // [workspace_size(count)]
  std::int64_t count;

  static constexpr std::int64_t kGrain = 16384;
  static std::int64_t workspace_size(std::int64_t count) { return chunk_count(0, count, kGrain); }
  double bytes() const { return 1.0 * count * sizeof(T); }
  double operations() const { return 1.0 * count; }
};

/// y[j] = scale * sum_i x[i, j], or with `factor`, scale * sum_i x[i, j] factor[i, j] (the gradient
/// of a broadcast factor). No rows give 0. Accumulated in f64, per chunk of rows, the chunks in
/// order (on CUDA pairwise, in an order of the shape and alignment alone): deterministic. Bytes: (1
/// or 2) rows width sizeof(T). Operations: (1 or 2) rows width.
template <class T>
struct SumOverRows {
  static constexpr std::string_view name = "sum_over_rows";
  double scale;
  const T* x;         // [rows, width]
  const T* factor;    // [rows, width] or null
  T* y;               // [width], overwritten
  double* workspace;  // [workspace_size(rows, width)]
  std::int64_t rows, width;

  static std::int64_t grain(std::int64_t width) { return width < 16 ? 1024 : 64; }  // rows
  static std::int64_t workspace_size(std::int64_t rows, std::int64_t width) {
    return chunk_count(0, rows, grain(width)) * width;
  }
  double bytes() const { return (factor == nullptr ? 1.0 : 2.0) * rows * width * sizeof(T); }
  double operations() const { return (factor == nullptr ? 1.0 : 2.0) * rows * width; }
};

/// y[i] = scale * sum_j x[i, j], accumulated in f64. No columns give 0. Bytes: rows width
/// sizeof(T). Operations: rows width.
template <class T>
struct SumOverColumns {
  static constexpr std::string_view name = "sum_over_columns";
  double scale;
  const T* x;  // [rows, width]
  T* y;        // [rows], overwritten
  std::int64_t rows, width;

  double bytes() const { return 1.0 * rows * width * sizeof(T); }
  double operations() const { return 1.0 * rows * width; }
};

/// y[i, j] = scale * x[i * row_stride + j * column_stride] with strides of 0 or 1: the gradient of
/// a sum over both (0, 0), over rows (0, 1) or over columns (1, 0). Bytes: rows width sizeof(T).
/// Operations: rows width.
template <class T>
struct Broadcast {
  static constexpr std::string_view name = "broadcast";
  double scale;
  const T* x;
  std::int64_t row_stride, column_stride;
  T* y;  // [rows, width], overwritten
  std::int64_t rows, width;

  double bytes() const { return 1.0 * rows * width * sizeof(T); }
  double operations() const { return 1.0 * rows * width; }
};

}  // namespace cmir::kernels
