// The decorrelation loss R_dec, the paper's "mutual information" term (CmIR section 3.3, eqs. 5-6).
#pragma once

#include "autograd/tape.h"

namespace cmir::losses {

enum class NormalisationAxis {
  per_sample,  ///< over the features of each sample: C_ij is d times the Pearson correlation of two
               ///< samples' features
  per_feature,  ///< over the batch for each feature
};

enum class DecorrelationScale { none, by_features, by_samples };  ///< C, C / d, C / N

/// The paper leaves all but alpha open.
struct DecorrelationOptions {
  /// Weight of the off-diagonal elements, in (0, 1] (Table 7).
  double alpha = 1.0;
  /// Read row by row, "same-sample orthogonality" on C's diagonal is literal.
  NormalisationAxis axis = NormalisationAxis::per_sample;
  /// Divide the variance by n - 1 and not by n.
  bool unbiased_std = false;
  /// Added to the variance: a constant row gives 0 and a finite gradient.
  double epsilon = 1e-12;
  /// As printed, C is not divided. At random initial correlations of about 0.08 the weighted term
  /// is then 0.6 to 6 in five columns of Table 7, the size of L_pred, and 60 for MOSEI; with C / d
  /// it is 0.004 to 0.04 in those five and 0.4 for MOSEI.
  DecorrelationScale scale = DecorrelationScale::none;
};

/// || W o C ||_F, not squared, with C = Nor(z_invariant) Nor(z_spurious)^T [N, N] and W = 1 on the
/// diagonal, alpha elsewhere. Both inputs [N, d], N, d >= 1 (a single feature per sample, or a
/// single sample per feature, normalises to 0). A scalar []. Where the value is 0 so is the
/// gradient. C itself is formed only for N <= d; for N > d two d x d Gram matrices serve
/// (kernels/loss/decorrelation.h).
Variable decorrelation(const Variable& z_invariant, const Variable& z_spurious,
                       const DecorrelationOptions& options = {});

}  // namespace cmir::losses
