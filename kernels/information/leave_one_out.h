// The leave-one-out bound of mutual information from the sums over pairs
// (kernels/information/pairs.h): each sample's own score against the mean of exp of the others'
// (Poole, Ozair, van den Oord, Alemi, Tucker: "On variational bounds of mutual information", ICML
// 2019, section 2.3),
//   mean_i (own_i - ln (1 / (n - 1) sum_{j != i} exp(s_ij))).
// own_i is given apart, so that it may be exacter than s_ii.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"
#include "kernels/information/pairs.h"

namespace cmir::kernels {

/// *value = scale sum_i (own_i + ln(n - 1) - ln sum_{j != i} exp(s_ij)), n >= 2. In f64, in a fixed
/// order. Bytes: 28 n. Operations: 30 n.
template <class T>
struct LeaveOneOutForward {
  static constexpr std::string_view name = "leave_one_out_forward";
  PairTotals<T> totals;  // of the rows
  const double* own;     // [n]
  double scale;
  double* of_rows;  // [n], scratch
  T* value;         // [1]

  CMIR_HOST_DEVICE void compute(std::int64_t i) const {
    const double others = static_cast<double>(totals.row_largest[i]) + std::log(totals.row_sum[i]);
    of_rows[i] = own[i] - others + std::log(static_cast<double>(totals.n - 1));
  }
  double bytes() const { return (24.0 + sizeof(T)) * totals.n; }
  double operations() const { return 30.0 * totals.n; }
};

/// The weights and shifts of PairGradient for the cotangent of the value (the gradient by own_i is
/// cotangent scale): row_weight_i exp(s_ij - row_shift_i) is -cotangent scale times the softmax
/// over the others, and the diagonal has no part in it. Elementwise, in f64. Bytes: 4 n elements
/// and 8 n. Operations: 2 n.
template <class T>
struct LeaveOneOutBackward {
  static constexpr std::string_view name = "leave_one_out_backward";
  PairTotals<T> totals;
  const T* cotangent;  // [1]
  double scale;
  T* row_weight;       // [n]
  T* row_shift;        // [n]
  T* diagonal_weight;  // [n]

  CMIR_HOST_DEVICE void compute(std::int64_t i) const {
    row_weight[i] = static_cast<T>(-scale * static_cast<double>(*cotangent) / totals.row_sum[i]);
    row_shift[i] = totals.row_largest[i];
    diagonal_weight[i] = 0;
  }
  double bytes() const { return (8.0 + 4.0 * sizeof(T)) * totals.n; }
  double operations() const { return 2.0 * totals.n; }
};

}  // namespace cmir::kernels
