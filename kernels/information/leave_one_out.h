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

/// *value = scale sum_i (own_i + ln(n - 1) - ln sum_{j != i} exp(s_ij)), n >= 2; with no columns.
/// The weights are for the cotangent of the value (whose gradient by own_i is scale):
/// row_weight_i exp(s_ij - row_shift_i) is -scale times the softmax over the others, and the
/// diagonal has no part in it. Beside the sums, bytes and operations are a few per sample; in f64,
/// in a fixed order.
template <class T>
struct LeaveOneOutForward {
  static constexpr std::string_view name = "leave_one_out_forward";
  PairSums<T> sums;
  const double* own;  // [n]
  double scale;
  double* of_rows;  // [n], scratch
  SumOf<T>* value;  // [1]
  PairWeights<SumOf<T>> weights;

  CMIR_HOST_DEVICE void finish_sample(std::int64_t i) const {
    const double others = static_cast<double>(sums.row_largest[i]) + std::log(sums.row_sum[i]);
    of_rows[i] = own[i] - others + std::log(static_cast<double>(sums.scores.n - 1));
    if (weights.row_weight == nullptr) return;
    weights.row_weight[i] = static_cast<SumOf<T>>(-scale / sums.row_sum[i]);
    weights.row_shift[i] = sums.row_largest[i];
    weights.diagonal_weight[i] = 0;
  }
  CMIR_HOST_DEVICE bool wants_total() const { return true; }
  CMIR_HOST_DEVICE double value_of(std::int64_t i) const { return of_rows[i]; }
  CMIR_HOST_DEVICE void finish(double total) const {
    *value = static_cast<SumOf<T>>(scale * total);
  }
  double bytes() const {
    return sums.bytes() +
           (16.0 + (weights.row_weight != nullptr ? 3.0 : 0.0) * sizeof(SumOf<T>)) * sums.scores.n;
  }
  double operations() const { return sums.operations() + 30.0 * sums.scores.n; }
};

}  // namespace cmir::kernels
