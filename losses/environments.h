// Virtual environments and corruption of unimodal representations (CmIR sections 3.2 and 5.4).
#pragma once

#include "autograd/tape.h"
#include "core/philox.h"
#include "kernels/loss/corrupt.h"

namespace cmir::losses {

/// x [N, d] -> [(environments + 1) N, d]: rows 0 .. N-1 are x, rows e N .. e N + N - 1 are x +
/// alpha e eps_e with eps_e standard normal, drawn afresh for each e (eq. 3; alpha is alpha(1) of
/// Table 7, Sigma = I). Element (i, j) of eps_e is number (e - 1) N d + i d + j of `stream`; give
/// each modality its own `site` and each step its own `step`. environments >= 1. The gradient adds
/// the blocks.
Variable noise_variants(const Variable& x, int environments, double alpha,
                        const RandomStream& stream);

using kernels::CorruptionKind;

struct Corruption {
  CorruptionKind kind = CorruptionKind::gaussian;
  double rate = 0;  ///< noise rate in [0, 1]
  /// Scale b of the Laplace noise, whose variance is 2 b^2. The paper does not state it; the
  /// default gives variance 1, like that of the Gaussian noise it is compared with. b = 1 is the
  /// other usual reading.
  double laplace_scale = 0.70710678118654752;
};

/// x [N, d] corrupted: gaussian, laplace: (1 - rate) x + rate n (eq. 14); erase: each feature 0
/// with probability rate; laplace_or_erase: each sample takes one of these two with probability 1/2
/// (the paper's OOD noise). Numbers as kernels/loss/corrupt.h says.
Variable corrupt(const Variable& x, const Corruption& corruption, const RandomStream& stream);

}  // namespace cmir::losses
