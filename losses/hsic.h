// The Hilbert-Schmidt independence criterion: how far two representations of the same samples are
// from independent (Gretton, Bousquet, Smola, Schoelkopf: "Measuring statistical dependence with
// Hilbert-Schmidt norms", ALT 2005).
#pragma once

#include "autograd/tape.h"

namespace cmir::losses {

struct HsicOptions {
  /// Kernels exp(-gamma |a - b|^2) of each side, above 0. The default suits rows whose features
  /// have been normalised and few; a usual choice is 1 over the median squared distance.
  double gamma_x = 1, gamma_y = 1;
  /// Song et al.'s estimator (JMLR 2012, eq. 5), which may be negative and needs four samples; the
  /// biased one is never below 0 but for rounding, and above 0 by O(1/n) for independent samples.
  bool unbiased = false;
};

/// HSIC of x [samples, dx] and y [samples, dy], row i of both being one sample; f32 or f64, both
/// differentiable. A scalar []; of one sample 0. Memory: the gradients, which are kept from the
/// forward pass, and two f64 a sample; time grows with samples^2 (dx + dy). Biased: divided by n^2,
/// so (n - 1)^2 / n^2 times the paper's. In f32 the value is known to about 1e-7. Formulas:
/// kernels/invariance/hsic.h.
Variable hsic(const Variable& x, const Variable& y, const HsicOptions& options = {});

}  // namespace cmir::losses
