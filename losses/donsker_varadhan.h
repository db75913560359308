// The lower bound of mutual information of Donsker and Varadhan, and MINE's way to maximise it.
#pragma once

#include "losses/all_pairs.h"

namespace cmir::losses {

/// A moving average of mean exp(score) over steps.
struct ExpAverage {
  /// Its logarithm, f64, one element, on the inputs' device: -inf before the first step. Every call
  /// that is given it updates it, in place, and so does every replay of a recorded one: the caller
  /// keeps it, and does not give it to evaluations.
  Tensor logarithm;
  double rate = 0.01;  ///< weight of a step's own mean, in (0, 1]

  static ExpAverage fresh(double rate, Device device = {});
};

/// mean s_ii - ln mean_{i != j} exp(s_ij), a scalar []: a lower bound of I(A; B) in nats where the
/// means are those of the distributions; of N samples its expectation may lie above. a, b [N, d] of
/// one dtype, N >= 2, d >= 1. No N x N array beyond kPairKept samples (CUDA: kPairBlockRows);
/// four products of 2 N^2 d operations for value and gradients. With an average (MINE) the value
/// stays, and its gradient has the average where the batch's own mean would divide, so that small
/// batches do not bias it.
Variable donsker_varadhan(const Variable& a, const Variable& b, const CriticOptions& scores = {},
                          const ExpAverage& average = {});

}  // namespace cmir::losses
