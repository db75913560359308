// Rows of a table by index, and the gradient with respect to the table
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// y[i] = table[indices[i]], rows of `width`. Every index must be in [0, table rows): the caller
/// has checked that. Bytes: 2 rows width sizeof(T) + 4 rows. Operations: none.
template <class T>
struct EmbeddingForward {
  static constexpr std::string_view name = "embedding_forward";
  const T* table;               // [table rows, width]
  const std::int32_t* indices;  // [rows]
  T* y;                         // [rows, width]
  std::int64_t rows, width;

  double bytes() const { return 2.0 * rows * width * sizeof(T) + 4.0 * rows; }
  double operations() const { return 0.0; }
};

/// dtable[indices[i]] += dy[i], accumulated into dtable. A thread owns a range of columns and takes
/// the rows in order, so that the sum's order is fixed without atomics. On CUDA the rows are sorted
/// by index, stably, and a warp adds those of one index in some columns. Bytes: 3 rows width
/// sizeof(T) + 4 rows per range (the sort's not counted). Operations: rows width.
template <class T>
struct EmbeddingBackward {
  static constexpr std::string_view name = "embedding_backward";
  const T* dy;                  // [rows, width]
  const std::int32_t* indices;  // [rows]
  T* dtable;                    // [table rows, width]
  std::int64_t rows, width;     // rows < 2^32
  std::int64_t* workspace;      // [2 rows] on a device; the CPU needs none

  double bytes() const { return 3.0 * rows * width * sizeof(T) + 4.0 * rows; }
  double operations() const { return 1.0 * rows * width; }
};

}  // namespace cmir::kernels
