// The reconstruction loss R_rec (CmIR section 3.4, eqs. 7-8).
#pragma once

#include "autograd/tape.h"

namespace cmir::losses {

struct ReconstructionOptions {
  /// The mean over features (the paper: "computed using MSE") or their sum (|| . ||_2^2 as
  /// printed). The batch is averaged.
  bool mean_over_features = true;
  /// Cut the gradient to x. The paper mentions no such cut and x is learned, so the default lets it
  /// flow.
  bool stop_gradient = false;
};

/// Mean over samples of |x - x_hat|^2, both [N, d], N >= 1; a scalar [].
Variable reconstruction(const Variable& x, const Variable& x_hat,
                        const ReconstructionOptions& options = {});

}  // namespace cmir::losses
