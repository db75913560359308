// InfoNCE from the sums over pairs (kernels/information/pairs.h).
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"
#include "kernels/information/pairs.h"

namespace cmir::kernels {

/// One row (or column) of scores: sum exp(largest) over the others beside its own s_ii, both
/// relative to the larger of the two.
struct OwnAndOthers {
  double shift, own, others;

  CMIR_HOST_DEVICE OwnAndOthers(double diagonal, double largest, double sum)
      : shift(sum == 0 || largest < diagonal ? diagonal : largest),
        own(std::exp(diagonal - shift)),
        others(sum == 0 ? 0.0 : sum * std::exp(largest - shift)) {}
  /// ln((own + others) / own), to its last digit also where others is tiny.
  CMIR_HOST_DEVICE double loss(double diagonal) const {
    return others < own ? std::log1p(others / own) : shift - diagonal + std::log(own + others);
  }
};

/// losses[i] = ln sum_j exp(s_ij) - s_ii (van den Oord, Li, Vinyals: "Representation learning with
/// contrastive predictive coding", 2018, eq. 4); with columns the mean of that and of ln sum_j
/// exp(s_ji) - s_ii, as CLIP has it. ln N - mean loss is a lower bound of mutual information, and
/// never exceeds ln N. Bytes and operations: a few per sample. Deterministic: elementwise, in f64.
template <class T>
struct InfoNceForward {
  static constexpr std::string_view name = "info_nce_forward";
  PairTotals<T> totals;
  T* losses;  // [n]

  CMIR_HOST_DEVICE void compute(std::int64_t i) const {
    const auto own = static_cast<double>(totals.diagonal[i]);
    double loss = OwnAndOthers(own, totals.row_largest[i], totals.row_sum[i]).loss(own);
    if (totals.column_largest != nullptr) {
      loss += OwnAndOthers(own, totals.column_largest[i], totals.column_sum[i]).loss(own);
      loss *= 0.5;
    }
    losses[i] = static_cast<T>(loss);
  }
  double bytes() const { return 8.0 * totals.n * sizeof(T); }
  double operations() const { return 100.0 * totals.n; }
};

/// The weights and shifts of PairGradient for the cotangent of the losses: exp(s_ij - shift_i)
/// weight_i is the softmax of row i times its share of the loss, the diagonal's weight that softmax
/// less 1, which is -others / (own + others).
template <class T>
struct InfoNceBackward {
  static constexpr std::string_view name = "info_nce_backward";
  PairTotals<T> totals;
  const T* cotangent;  // [n]
  T* row_weight;       // [n]
  T* row_shift;        // [n]
  T* column_weight;    // [n], or null as the totals' columns are
  T* column_shift;     // [n] or null
  T* diagonal_weight;  // [n]

  CMIR_HOST_DEVICE double half(std::int64_t i, double cotangent_i, const T* largest,
                               const double* sum, T* weight, T* shift) const {
    const OwnAndOthers of(static_cast<double>(totals.diagonal[i]), largest[i], sum[i]);
    shift[i] = static_cast<T>(of.shift);
    weight[i] = static_cast<T>(cotangent_i / (of.own + of.others));
    return -cotangent_i * of.others / (of.own + of.others);
  }
  CMIR_HOST_DEVICE void compute(std::int64_t i) const {
    const double share = totals.column_largest != nullptr ? 0.5 : 1.0;
    const double c = share * static_cast<double>(cotangent[i]);
    double diagonal = half(i, c, totals.row_largest, totals.row_sum, row_weight, row_shift);
    if (totals.column_largest != nullptr) {
      diagonal += half(i, c, totals.column_largest, totals.column_sum, column_weight, column_shift);
    }
    diagonal_weight[i] = static_cast<T>(diagonal);
  }
  double bytes() const { return 11.0 * totals.n * sizeof(T); }
  double operations() const { return 60.0 * totals.n; }
};

}  // namespace cmir::kernels
