// What the ops of NWJ and Donsker-Varadhan share: all but their names and gradient cases.
#pragma once

#include "kernels/information/pair_bound.h"
#include "losses/all_pairs.h"

namespace cmir::losses {

/// Inputs as pair_inputs gives them. A scalar [].
struct PairBound {
  kernels::PairBoundKind kind;
  double factor;
  double rate = 1;
  Tensor log_average = {};  // f64, one element, or undefined
  Precision precision = current_precision();

  /// Error, in the name of `op`: fewer than two samples, or as AllPairs.
  Tensor forward(std::string_view op, OpContext& context, std::span<const Tensor> inputs) const;
  Gradients backward(const OpContext& context, const Tensor& dy) const;
};

}  // namespace cmir::losses
