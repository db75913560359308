// The mean over time of packed sequences.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// y[s] = mean of the rows offsets[s] .. offsets[s + 1] of x; zeros for an empty sample. Rows are
/// summed in order. y is overwritten; a sample's bits depend on its rows only. Bytes: (rows +
/// samples) width sizeof(T). Operations: rows width.
template <class T>
struct MeanPoolForward {
  static constexpr std::string_view name = "mean_pool_forward";
  const T* x;                   // [rows, width]
  const std::int64_t* offsets;  // [samples + 1]
  T* y;                         // [samples, width]
  std::int64_t samples;
  std::int64_t width;

  /// `rows`: offsets[samples], which may be on a device.
  double bytes(std::int64_t rows) const { return sizeof(T) * width * (1.0 * samples + rows); }
  double operations(std::int64_t rows) const { return 1.0 * width * rows; }
};

/// dx[r] = dy[s] / (offsets[s + 1] - offsets[s]) for the rows r of sample s. dx is overwritten.
template <class T>
struct MeanPoolBackward {
  static constexpr std::string_view name = "mean_pool_backward";
  const T* dy;                  // [samples, width]
  const std::int64_t* offsets;  // [samples + 1]
  T* dx;                        // [rows, width]
  std::int64_t samples;
  std::int64_t width;

  /// `rows`: offsets[samples], which may be on a device.
  double bytes(std::int64_t rows) const { return sizeof(T) * width * (1.0 * samples + rows); }
  double operations(std::int64_t rows) const { return 1.0 * width * rows; }
};

}  // namespace cmir::kernels
