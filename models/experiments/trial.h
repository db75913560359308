// A trial: one training run and its evaluation under several conditions. Every experiment is a list
// of trials.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "models/config.h"
#include "models/data/dataset.h"
#include "models/training/prepare.h"
#include "models/training/trainer.h"

namespace cmir {

/// Where and how a trained model is evaluated.
struct Condition {
  std::string name;           ///< "test", "gaussian 0.3"
  std::string part = "test";  ///< of the split
  NoiseConfig noise;          ///< its test_kind and test_rate
  std::string zeroed;         ///< a modality whose features are set to 0 (its training mean), or ""
};

struct Trial {
  std::string name;  ///< row of the table: "CmIR", "vanilla, gaussian 0.3"; seeds share it
  Config config;
  std::uint64_t seed = 1;
  std::vector<Condition> conditions;
};

using Values = std::map<std::string, double>;

struct TrialResult {
  std::map<std::string, Values> metrics;  ///< by condition; also "loss"
  /// What TrialRunOptions::analyse returned, and "step milliseconds" by the wall clock: training
  /// with its validation and checkpoints, beside the other trials (NaN where it was resumed).
  Values extra;
  double seconds = 0;
  std::int64_t parameters = 0;
};

struct TrialRunOptions {
  /// Results are kept here, one JSON file per trial; a trial whose file is there and was made by
  /// the same configuration, conditions and data is not run again, and one that was stopped goes on
  /// from its checkpoint.
  std::filesystem::path directory;
  /// Looks at the trained model, on the thread that trained it; what it returns is kept in
  /// TrialResult::extra.
  std::function<Values(const Trial&, const Model&, const PreparedData&)> analyse;
  bool show_progress = true;
  std::int64_t checkpoint_steps = 0;  ///< see TrainOptions
  Trace* trace = nullptr;             ///< see TrainOptions
  bool keep_models = false;           ///< leave model.safetensors of every trial in its directory
};

/// Runs all trials, several at a time on thread_count() threads, and returns their results in
/// order. The bits do not depend on the number of threads. An interrupt (InterruptGuard) leaves
/// checkpoints and throws Interrupted.
std::vector<TrialResult> run_trials(const std::vector<Trial>& trials, const Dataset& dataset,
                                    const TrialRunOptions& options);

/// Thrown when a signal asked to stop: what was finished is on disk (but for mi_gaussian_study).
class Interrupted : public std::runtime_error {
 public:
  explicit Interrupted(const char* message = "interrupted; run the same command again to go on")
      : std::runtime_error(message) {}
};

/// The parts of `split` that are not empty, as conditions without noise: "test" and, where there is
/// one, "test_ood".
std::vector<Condition> plain_conditions(const Split& split);

}  // namespace cmir
