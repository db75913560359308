// Layer normalisation.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// (x - mean) / sqrt(variance + epsilon) * gamma + beta over the last dimension, with the biased
/// variance. x f32 or f64 of any rank
/// >= 1, gamma and beta [width], epsilon > 0. Returns x's shape.
Variable layer_norm(const Variable& x, const Variable& gamma, const Variable& beta,
                    double epsilon = 1e-5);

}  // namespace cmir::ops
