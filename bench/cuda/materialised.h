// InfoNCE with all N x N scores in memory, on a GPU or the host model: what it needs beside the
// products, which are the BLAS's. The peer of the loss that keeps none.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// row_sums[i] = ln sum_j exp(s_ij), column_sums[j] = ln sum_i exp(s_ij) unless null, and *value =
/// the mean over i of row_sums[i] - s_ii, or of half of that and half of the columns'.
template <class T>
struct MaterialisedSums {
  static constexpr std::string_view name = "materialised_sums";
  const T* s;      // [n, n]
  std::int64_t n;  // >= 1
  T* row_sums;     // [n]
  T* column_sums;  // [n] or null
  T* value;        // [1]
};

/// ds_ij = d value / d s_ij, rounded to T; with T = float it may be s.
template <class T>
struct MaterialisedGradient {
  static constexpr std::string_view name = "materialised_gradient";
  const float* s;            // [n, n]
  std::int64_t n;            // >= 1
  const float* row_sums;     // [n]
  const float* column_sums;  // [n] or null
  T* ds;                     // [n, n]
};

}  // namespace cmir::kernels
