// CORAL: how far the means and covariances of the environments' representations are apart (Sun,
// Saenko: "Deep CORAL: correlation alignment for deep domain adaptation", 2016).
#pragma once

#include "autograd/tape.h"
#include "losses/environment_groups.h"

namespace cmir::losses {

/// The defaults are those of DomainBed (Gulrajani, Lopez-Paz: "In search of lost domain
/// generalization", 2021). Deep CORAL itself has {0, 0.25} and two environments.
struct CoralOptions {
  double mean_weight = 1;        ///< of ||mu_a - mu_b||^2 / d
  double covariance_weight = 1;  ///< of ||C_a - C_b||_F^2 / d^2
};

/// The weighted sum of both, averaged over the pairs of environments that have samples. z [samples,
/// d], f32 or f64; mu_e is the mean and C_e [d, d] the covariance of the rows of e, divided by n_e
/// - 1; that of a single row is 0. Weights >= 0 (checked). A scalar [], 0 for fewer than two
/// environments. Memory: z's gradient, which is kept from the forward pass; while that runs three
/// times z and d^2 per environment. Covariances are known to about eps times their size, so a
/// difference below that is rounding noise. Kernel: kernels/invariance/coral.h.
Variable coral(const Variable& z, const EnvironmentGroups& environments,
               const CoralOptions& options = {});

}  // namespace cmir::losses
