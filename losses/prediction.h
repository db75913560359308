// Prediction losses, L_pred (CmIR eqs. 1-2, Table 7): one value per sample, or their mean.
#pragma once

#include "autograd/tape.h"

namespace cmir::losses {

enum class Reduction {
  mean,  ///< the mean over samples, shape []
  none,  ///< one value per sample, shape [samples]
};

// Common to all: the first argument is f32 or f64 and differentiable, its first dimension counts
// the samples (at least one). A NaN gives NaN. Errors name the loss and both shapes. `repeats`: the
// prediction is that many blocks of the target's samples, as noise_variants() makes them.

/// (p - t)^2. prediction [N], [N, 1] or [N, outputs] (then averaged over outputs); target with as
/// many elements, f32 or f64.
Variable mse(const Variable& prediction, const Tensor& target,
             Reduction reduction = Reduction::mean, std::int64_t repeats = 1);
/// |p - t|, with gradient 0 where p = t. Shapes as mse.
Variable mae(const Variable& prediction, const Tensor& target,
             Reduction reduction = Reduction::mean, std::int64_t repeats = 1);
/// -w t ln s(x) - (1 - t) ln(1 - s(x)), s the logistic function, without overflow for any finite
/// logit. target in [0, 1] (checked), shapes as mse. `positive_weight` w > 0 multiplies the
/// positive class (N_negative / N_positive balances the two).
Variable binary_cross_entropy_with_logits(const Variable& logits, const Tensor& target,
                                          double positive_weight = 1.0,
                                          Reduction reduction = Reduction::mean,
                                          std::int64_t repeats = 1);
/// logsumexp(logits) - logits[class]. logits [N, classes], classes i32 [N] in [0, classes)
/// (checked).
Variable cross_entropy(const Variable& logits, const Tensor& classes,
                       Reduction reduction = Reduction::mean, std::int64_t repeats = 1);

/// The Errors of the two losses above for targets, on the CPU, out of their range.
void check_probabilities(const Tensor& target);
void check_classes(const Tensor& classes, std::int64_t count);

}  // namespace cmir::losses
