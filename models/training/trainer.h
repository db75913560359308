// The training loop of one seed: steps, epochs, validation, checkpoints, resume.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/networks/cmir.h"
#include "models/training/model_file.h"
#include "models/training/prepare.h"

namespace cmir {

class Trace;  // core/trace.h

/// Values of the loss terms by name: "prediction", "invariance.text", ..., "total".
using LossValues = std::map<std::string, double>;

struct EpochRecord {
  std::int64_t epoch = 0;  ///< from 1
  std::int64_t step = 0;   ///< optimizer steps so far
  double learning_rate = 0;
  double gradient_norm = 0;  ///< of the last step, before clipping
  LossValues train;          ///< means over the epoch's batches
  std::optional<double> valid_loss;
  std::map<std::string, double> valid;  ///< metrics of the validation part
};

/// Where training stands; everything that a resumed run needs beside tensors.
struct TrainingState {
  std::int64_t epoch = 0;     ///< epochs completed
  std::int64_t position = 0;  ///< batches completed in the epoch that is under way
  std::int64_t step = 0;      ///< optimizer steps completed
  LossValues sums;            ///< of the epoch under way
  std::int64_t best_epoch = 0;
  double best_score = 0;
  double gradient_norm = 0;  ///< of the last step, before clipping
  bool finished = false;
  std::vector<EpochRecord> history;
};

struct StepReport {
  const TrainingState& state;
  std::int64_t steps_total;
  const LossValues& losses;
};

/// The files that a run leaves in its directory.
inline constexpr const char* kCheckpointFile = "checkpoint.safetensors";
inline constexpr const char* kModelFile = "model.safetensors";

struct TrainOptions {
  std::filesystem::path directory;  ///< for checkpoint.safetensors and model.safetensors, and a
                                    ///< reference model's folder while that trains; empty: nothing
                                    ///< is written
  bool resume = true;               ///< go on from the directory's checkpoint where there is one
  std::int64_t checkpoint_steps = 0;  ///< also every so many steps; 0: at the end of epochs only
  double checkpoint_seconds = 60;     ///< also after so many seconds
  std::function<void(const StepReport&)> on_step;
  Trace* trace = nullptr;  ///< where steps are noted; null: nowhere. The bits are the same
};

struct TrainResult {
  std::shared_ptr<Model> model;  ///< with the parameters that training.checkpoint selects
  TrainingState state;
  bool interrupted = false;  ///< stopped by InterruptGuard after writing a checkpoint; not finished
  bool resumed = false;
};

/// Trains `config`'s model on `data` with one seed, which fixes initial values, batch order,
/// dropout and noise. Deterministic: the same bits for any thread count, and for a run that was
/// stopped and resumed any number of times. Errors: kind numeric when a loss or gradient is not
/// finite (the message names batch, term and parameter; the last checkpoint stays); a checkpoint of
/// another configuration, model or data set. With loss.environments_from = "inferred" a reference
/// model is trained first, without on_step (environment_inference.h); its Errors.
TrainResult train(const Config& config, const PreparedData& data, std::uint64_t seed,
                  const TrainOptions& options = {});

/// What the checkpoint that a run in `directory` would resume was made by; nothing where there is
/// no checkpoint. Errors: kind data, when it is none.
std::optional<ModelDescription> checkpoint_description(const std::filesystem::path& directory);

/// [{"epoch": 1, "step": ..., "learning_rate": ..., "train": {...}, "valid_loss": ..., "valid":
/// {...}}, ...]
nlohmann::ordered_json to_json(const std::vector<EpochRecord>& history);

/// Optimizer steps of a whole run.
std::int64_t total_steps(const Config& config, const PreparedData& data);

}  // namespace cmir
