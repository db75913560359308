// Environments inferred from what a reference model gets wrong (EIIL; Creager, Jacobsen, Zemel:
// "Environment inference for invariant learning", ICML 2021).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/training/evaluate.h"
#include "models/training/trainer.h"

namespace cmir {

/// The defaults are those of the authors' code.
struct EnvironmentInferenceOptions {
  std::int64_t steps = 10000;
  double learning_rate = 0.001;
  std::uint64_t seed = 0;  ///< of the first assignments
};

/// Two environments, 0 and 1, in which the reference model's IRMv1 penalties are large. Sample i is
/// of environment 1 by q_i = sigmoid(theta_i), theta_i ~ N(0, 1) at first, and Adam ascends
///   C(q) = (1/2) ((1/N) sum_i q_i s_i)^2 + (1/2) ((1/N) sum_i (1 - q_i) s_i)^2
/// where s_i is the sample's slope (kernels/invariance/loss_slope.h); then environment 1 is where
/// q_i > 1/2. As in the paper both risks are divided by N, not by the environments' sizes, and so
/// the greatest C is known: with S and D the sum and the difference of the two brackets it is (S^2
/// + D^2) / 4, S does not depend on q, and |D| is largest where the environments are the samples of
/// one sign of s_i each. The seed decides which is which, and where samples of s_i = 0 are. In f64
/// on one thread, so that the bits do not depend on the number of threads.
std::vector<std::int32_t> infer_environments(std::span<const double> slopes,
                                             const EnvironmentInferenceOptions& options = {});

/// d/dw loss(w f_i, y_i) at w = 1 of every prediction f_i, which have labels; the loss is
/// config.prediction.
std::vector<double> loss_slopes(const LossConfig& config, const Predictions& predictions);

struct InferredEnvironments {
  SampleEnvironments environments;
  bool interrupted = false;  ///< in the reference model's training; environments are none
  bool resumed = false;
};

/// Trains the vanilla framework with the same configuration and seed, in options.directory where it
/// is not empty, from the checkpoint there where it is this reference model's, and infers the
/// training samples' environments from its clean predictions of them. Errors: train()'s; kind usage
/// when all samples come into one environment.
InferredEnvironments train_reference(const Config& config, const PreparedData& data,
                                     std::uint64_t seed, TrainOptions options);

}  // namespace cmir
