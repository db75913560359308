// Position encodings added to packed sequences.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// y[r] = scale x[r] + table[r - offsets[s]] for the rows r of sample s: positions count from the
/// sample's start. y is overwritten and may be x. Bytes: 2 rows width sizeof(T), the table staying
/// in cache. Operations: 2 rows width.
template <class T>
struct AddPositions {
  static constexpr std::string_view name = "add_positions";
  const T* x;                   // [rows, width]
  const std::int64_t* offsets;  // [samples + 1]
  const T* table;               // [at least the longest sample, width]
  T scale;
  T* y;  // [rows, width]
  std::int64_t samples;
  std::int64_t width;

  /// `rows`: offsets[samples], which may be on a device.
  double bytes(std::int64_t rows) const { return 2.0 * sizeof(T) * width * rows; }
  double operations(std::int64_t rows) const { return 2.0 * width * rows; }
};

/// dtable[p] = sum of dy[offsets[s] + p] over the samples s longer than p, in order of s; zeros
/// where there is none. dtable is overwritten. Bytes: (rows + positions) width sizeof(T).
/// Operations: rows width.
template <class T>
struct PositionsBackwardTable {
  static constexpr std::string_view name = "positions_backward_table";
  const T* dy;                  // [rows, width]
  const std::int64_t* offsets;  // [samples + 1]
  T* dtable;                    // [positions, width]
  std::int64_t samples;
  std::int64_t positions;
  std::int64_t width;

  /// `rows`: offsets[samples], which may be on a device.
  double bytes(std::int64_t rows) const { return sizeof(T) * width * (1.0 * rows + positions); }
  double operations(std::int64_t rows) const { return 1.0 * width * rows; }
};

}  // namespace cmir::kernels
