// Soft-HGR: a relaxation of the Hirschfeld-Gebelein-Renyi maximal correlation (Wang, Wu, Huang,
// Zheng, Xu, Zhang, Huang: "An efficient approach to informative feature extraction from multimodal
// data", AAAI 2019, eq. 6).
#pragma once

#include "autograd/tape.h"

namespace cmir::losses {

/// E[f^T g] - tr(cov(f) cov(g)) / 2 with f and g centred over the samples and all means divided by
/// N - 1, as the authors do. f, g [N, d], f32 or f64, both differentiable, N >= 1. A scalar [] to
/// be maximised over f and g; small where they share nothing, 0 of one sample. With A, B the centred f, g and n = N
/// - 1, the gradient is (B - A cov(g)) / n by f and (A - B cov(f)) / n by g. Memory: as much as
/// both again, and two d x d, never N x N; 8 N d^2 operations, forward and backward. The value is a
/// difference: in f32 it is known to a few eps of the larger of its two terms.
Variable soft_hgr(const Variable& f, const Variable& g);

}  // namespace cmir::losses
