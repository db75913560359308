// Environments inferred from what a reference model gets wrong (EIIL; Creager, Jacobsen, Zemel:
// "Environment inference for invariant learning", ICML 2021).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/training/evaluate.h"
#include "models/training/trainer.h"

namespace cmir {

/// Two environments, 0 and 1, in which the reference model's IRMv1 penalties are largest: EIIL's
/// assignments q_i in [0, 1] of sample i to environment 1 are to maximise
///   C(q) = (1/2) ((1/N) sum_i q_i s_i)^2 + (1/2) ((1/N) sum_i (1 - q_i) s_i)^2
/// where s_i is the sample's slope (kernels/invariance/loss_slope.h). As in the paper both risks
/// are divided by N, not by the environments' sizes, and so no ascent is needed: with S and D the
/// sum and the difference of the two brackets C is (S^2 + D^2) / 4, S does not depend on q, and
/// |D| is largest where the environments are the samples of one sign of s_i each. Environment 1 is
/// where s_i > 0.
std::vector<std::int32_t> infer_environments(std::span<const double> slopes);

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
