// Bounds of mutual information with a Gaussian q(y|x) = N(mu(x), diag exp(logvar(x))), and the loss
// that trains q. mu, logvar and y are [N, d] of one dtype, N, d >= 1; results are scalars [], in
// nats. The mathematics and its sources are in kernels/information.
#pragma once

#include "autograd/tape.h"
#include "core/philox.h"

namespace cmir::losses {

/// mean_i -ln q(y_i|x_i): what q minimises.
Variable gaussian_nll(const Variable& mu, const Variable& logvar, const Variable& y);

/// vCLUB, an upper bound of I(X; Y) as far as q is the conditional: mean_i ln q(y_i|x_i) - mean_ij
/// ln q(y_j|x_i), exactly and in O(N d). 0 for one sample.
Variable club(const Variable& mu, const Variable& logvar, const Variable& y);
/// vCLUB with unit variances: mean_i of the covariance of mu and y, summed over features.
Variable club_mean(const Variable& mu, const Variable& y);
/// vCLUB with one negative per sample, y in a random order (core/permutation.h): unbiased up to a
/// factor of N / (N - 1), with more variance than `club` at no less cost.
Variable club_sample(const Variable& mu, const Variable& logvar, const Variable& y,
                     const RandomStream& stream);

/// The leave-one-out bound, an upper bound of I(X; Y) where q is the conditional (Poole et al.
/// 2019, section 2.3): mean_i (ln q(y_i|x_i) - ln (1 / (N - 1) sum_{j != i} q(y_i|x_j))), N >= 2.
/// Value and all gradients cost four products of 4 N^2 d operations, and no N x N array
/// beyond kPairKept samples (CUDA: kPairBlockRows; kernels/information/pairs.h); in f32 a score
/// errs as kernels/information/gaussian_scores.h says.
Variable l1out(const Variable& mu, const Variable& logvar, const Variable& y);

}  // namespace cmir::losses
