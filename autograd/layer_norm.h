// Layer normalisation, alone or of a residual sum.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// (x - mean) / sqrt(variance + epsilon) * gamma + beta over the last dimension, with the biased
/// variance. x f32 or f64 of any rank
/// >= 1, gamma and beta [width], epsilon > 0. Returns x's shape.
Variable layer_norm(const Variable& x, const Variable& gamma, const Variable& beta,
                    double epsilon = 1e-5);

/// layer_norm(x + residual, ...) in one pass. Both of one shape and dtype.
Variable layer_norm_of_sum(const Variable& x, const Variable& residual, const Variable& gamma,
                           const Variable& beta, double epsilon = 1e-5);

struct SumAndNorm {
  Variable sum, norm;
};
/// The same for those who need x + residual too (a Transformer that normalises before its
/// sublayers). Two ops of the tape with one kernel forward; backward the norm's kernel adds its
/// gradient to what the sum has received.
SumAndNorm sum_and_layer_norm(const Variable& x, const Variable& residual, const Variable& gamma,
                              const Variable& beta, double epsilon = 1e-5);

}  // namespace cmir::ops
