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
/// never exceeds ln N. The weights are for a cotangent of the losses, or of their mean where that
/// is asked for: row_weight_i exp(s_ij - row_shift_i) is the softmax of row i times its share of
/// the loss, the diagonal's weight that softmax less 1, which is -others / (own + others). Beside
/// the sums, bytes and operations are a few per sample; in f64, in a fixed order.
template <class T>
struct InfoNceForward {
  static constexpr std::string_view name = "info_nce_forward";
  PairSums<T> sums;
  SumOf<T>* losses;  // [n]
  SumOf<T>* mean;    // [1] or null
  PairWeights<SumOf<T>> weights;

  CMIR_HOST_DEVICE bool symmetric() const { return sums.column_largest != nullptr; }

  /// The loss of a row or column, its softmax's weight and shift; returns the diagonal's weight.
  CMIR_HOST_DEVICE double add(std::int64_t i, SumOf<T> largest, double sum, double& loss,
                              SumOf<T>* weight, SumOf<T>* shift) const {
    const auto diagonal = static_cast<double>(sums.diagonal[i]);
    const OwnAndOthers of(diagonal, static_cast<double>(largest), sum);
    const double share = symmetric() ? 0.5 : 1.0;
    const double cotangent = mean == nullptr ? share : share / static_cast<double>(sums.scores.n);
    loss += share * of.loss(diagonal);
    if (weight != nullptr) {
      shift[i] = static_cast<SumOf<T>>(of.shift);
      weight[i] = static_cast<SumOf<T>>(cotangent / (of.own + of.others));
    }
    return -cotangent * of.others / (of.own + of.others);
  }
  CMIR_HOST_DEVICE void finish_sample(std::int64_t i) const {
    const PairWeights<SumOf<T>>& w = weights;
    double loss = 0;
    double diagonal = add(i, sums.row_largest[i], sums.row_sum[i], loss, w.row_weight, w.row_shift);
    if (symmetric()) {
      diagonal +=
          add(i, sums.column_largest[i], sums.column_sum[i], loss, w.column_weight, w.column_shift);
    }
    losses[i] = static_cast<SumOf<T>>(loss);
    if (w.row_weight != nullptr) w.diagonal_weight[i] = static_cast<SumOf<T>>(diagonal);
  }
  CMIR_HOST_DEVICE bool wants_total() const { return mean != nullptr; }
  CMIR_HOST_DEVICE double value_of(std::int64_t i) const { return static_cast<double>(losses[i]); }
  CMIR_HOST_DEVICE void finish(double total) const {
    *mean = static_cast<SumOf<T>>(total / static_cast<double>(sums.scores.n));
  }
  double bytes() const {
    return sums.bytes() +
           (weights.row_weight != nullptr ? 6.0 : 1.0) * sums.scores.n * sizeof(SumOf<T>);
  }
  double operations() const { return sums.operations() + 100.0 * sums.scores.n; }
};

}  // namespace cmir::kernels
