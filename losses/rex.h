// Risk extrapolation: penalties on how much the environments' risks differ (Krueger et al.:
// "Out-of-distribution generalization via risk extrapolation", ICML 2021).
//
// The risk R_e of an environment is the mean of its samples' losses (losses/prediction.h with
// Reduction::none). losses [samples], f32 or f64; a scalar []. E counts the environments that have
// samples; the others do not take part. Where none has, the value is 0. Kernel:
// kernels/invariance/environment_penalty.h.
#pragma once

#include "autograd/tape.h"
#include "losses/environment_groups.h"

namespace cmir::losses {

/// V-REx's penalty, sum_e (R_e - mean R)^2 / E; 0 for one environment. The objective adds the sum
/// or mean of the risks. In f32 a sample's loss is known to eps of itself and so is a risk: a
/// variance below (eps R)^2 is rounding noise.
Variable vrex(const Variable& losses, const EnvironmentGroups& environments);

/// MM-REx's objective (not a penalty beside the risks): the largest sum_e w_e R_e with sum_e w_e =
/// 1 and every w_e >= minimum_weight, that is (1 - E minimum_weight) max_e R_e + minimum_weight
/// sum_e R_e. minimum_weight <= 1 / environments.count() (checked): 1 / E is the mean risk, 0 the
/// worst, and below 0 the worst is weighed above 1 and the others against it. Of equal worst risks
/// the first has the gradient.
Variable mmrex(const Variable& losses, const EnvironmentGroups& environments,
               double minimum_weight);

}  // namespace cmir::losses
