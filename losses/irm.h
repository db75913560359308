// IRMv1: how far each environment's risk is from being stationary in the scale of the prediction
// (Arjovsky, Bottou, Gulrajani, Lopez-Paz: "Invariant risk minimization", 2019, eq. IRMv1).
//
//   penalty_e = (d/dw mean over the samples i of e of loss(w f_i, y_i), at w = 1)^2
//
// in closed form (kernels/invariance/loss_slope.h), value and gradient, with no second
// differentiation.
#pragma once

#include "autograd/tape.h"
#include "losses/environment_groups.h"

namespace cmir::losses {

struct IrmOptions {
  /// The product of the derivatives over every other sample of an environment in place of one
  /// squared: its expectation over batches is the square of the expected derivative, which the
  /// square overestimates. It may be negative (the paper, appendix D, and its authors' code).
  bool unbiased = false;
  /// Average the environments' penalties, as the authors' code does; false: sum them, as printed.
  bool mean_over_environments = true;
};

// Common to all: the first argument is f32 or f64, its first dimension counts the samples of
// `environments`. A scalar []. An environment without samples (unbiased: with fewer than two) adds
// nothing and is not counted in the mean; where there is no other, the penalty is 0. The target may
// be of fewer samples, of which those of the prediction are a multiple: sample i is compared with
// target i mod their number, so that the targets of a batch serve all blocks of noise_variants().
// Shapes and errors are otherwise those of losses/prediction.h, and so is the loss.

Variable irm_mse(const Variable& prediction, const Tensor& target,
                 const EnvironmentGroups& environments, const IrmOptions& options = {});
/// Where p = t the loss has a kink, and the derivative counts 0.
Variable irm_mae(const Variable& prediction, const Tensor& target,
                 const EnvironmentGroups& environments, const IrmOptions& options = {});
Variable irm_binary_cross_entropy_with_logits(const Variable& logits, const Tensor& target,
                                              const EnvironmentGroups& environments,
                                              const IrmOptions& options = {},
                                              double positive_weight = 1.0);
Variable irm_cross_entropy(const Variable& logits, const Tensor& classes,
                           const EnvironmentGroups& environments, const IrmOptions& options = {});

}  // namespace cmir::losses
