// Estimators of mutual information where it is known: the usual benchmark of jointly Gaussian pairs
// (Belghazi et al. 2018; Poole et al., "On variational bounds of mutual information", 2019; Cheng
// et al., "CLUB", 2020).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/device.h"
#include "models/experiments/study.h"

namespace cmir {

/// x and y are standard normal in `width` dimensions, each y_k correlated with x_k alone, by rho =
/// sqrt(1 - exp(-2 MI / width)). "cubic": y^3 in place of y, which changes no mutual information.
/// Each estimator learns from `steps` fresh batches at each level in turn, without starting anew,
/// and is judged by the last quarter of them.
struct MiGaussianOptions {
  std::vector<double> nats = {2, 4, 6, 8, 10};
  std::int64_t width = 20, batch = 64, hidden = 256, steps = 4000;
  double learning_rate = 5e-4;
  std::uint64_t seed = 1;
  Device device;
  bool show_progress = true;
};

/// Bias, standard deviation and root mean squared error of each estimator at each level, in nats.
StudyReport mi_gaussian_study(const MiGaussianOptions& options);

}  // namespace cmir
