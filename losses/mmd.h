// Maximum mean discrepancy between the environments' representations (Gretton et al.: "A kernel
// two-sample test", JMLR 2012).
#pragma once

#include <vector>

#include "autograd/tape.h"
#include "losses/environment_groups.h"

namespace cmir::losses {

struct MmdOptions {
  /// The kernel is the sum of exp(-gamma |x - y|^2) over these, 1 .. 16 of them, each above 0. The
  /// default is DomainBed's bank (Gulrajani, Lopez-Paz: "In search of lost domain generalization",
  /// 2021), which suits distances of any size; it is not scaled to the data.
  std::vector<double> gammas{0.001, 0.01, 0.1, 1, 10, 100, 1000};
  /// The paper's unbiased statistic (eq. 3), which leaves out each row's pair with itself: its
  /// expectation is MMD^2, and it may be negative. false: the biased one (eq. 5), never negative
  /// but for rounding, and above 0 by O(1 / n) for environments of one distribution.
  bool unbiased = false;
};

/// MMD^2 averaged over the pairs of environments that have samples (unbiased: two). z [samples, d],
/// f32 or f64. A scalar [], 0 for fewer than two such environments. Memory: z's gradient, which is
/// kept from the forward pass, and three f64 a sample; time grows with samples^2 d. In f32 the
/// value is known to about 1e-7 of the number of kernels. Kernel:
/// kernels/invariance/gaussian_mmd.h.
Variable mmd(const Variable& z, const EnvironmentGroups& environments,
             const MmdOptions& options = {});

}  // namespace cmir::losses
