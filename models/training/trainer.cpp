#include "models/training/trainer.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "autograd/arithmetic.h"
#include "core/error.h"
#include "core/formats/safetensors.h"
#include "core/trace.h"
#include "models/training/device_batches.h"
#include "models/training/device_steps.h"
#include "models/training/environment_inference.h"
#include "models/training/evaluate.h"
#include "models/training/interrupt.h"
#include "models/training/optimizer.h"
#include "models/training/penalty_schedule.h"
#include "models/training/schedule.h"
#include "models/training/units.h"

namespace cmir {
namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kBestPrefix = "best.";
constexpr const char* kOptimizerPrefix = "optimizer.";
constexpr const char* kEstimatorOptimizerPrefix = "estimator_optimizer.";
constexpr const char* kEnvironments = "environments";  // the inferred ones' labels
constexpr const char* kReferenceDirectory = "reference";

nlohmann::json to_json(const EpochRecord& record) {
  nlohmann::json json = {{"epoch", record.epoch},
                         {"step", record.step},
                         {"learning_rate", record.learning_rate},
                         {"gradient_norm", record.gradient_norm},
                         {"train", record.train},
                         {"valid", record.valid}};
  if (record.valid_loss) json["valid_loss"] = *record.valid_loss;
  return json;
}

/// JSON writes NaN (a metric that is undefined) as null.
std::map<std::string, double> values_from_json(const nlohmann::json& json) {
  std::map<std::string, double> values;
  for (const auto& [name, value] : json.items()) {
    values[name] = value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
  }
  return values;
}

EpochRecord record_from_json(const nlohmann::json& json) {
  EpochRecord record{.epoch = json.at("epoch"),
                     .step = json.at("step"),
                     .learning_rate = json.at("learning_rate"),
                     .gradient_norm = json.at("gradient_norm"),
                     .train = values_from_json(json.at("train")),
                     .valid = values_from_json(json.at("valid"))};
  if (json.contains("valid_loss")) record.valid_loss = json.at("valid_loss").get<double>();
  return record;
}

nlohmann::json to_json(const TrainingState& state) {
  nlohmann::json json = {{"epoch", state.epoch},
                         {"position", state.position},
                         {"step", state.step},
                         {"sums", state.sums},
                         {"best_epoch", state.best_epoch},
                         {"best_score", state.best_score},
                         {"gradient_norm", state.gradient_norm},
                         {"finished", state.finished},
                         {"history", nlohmann::json::array()}};
  for (const EpochRecord& record : state.history) json["history"].push_back(to_json(record));
  return json;
}

TrainingState state_from_json(const nlohmann::json& json) {
  TrainingState state{.epoch = json.at("epoch"),
                      .position = json.at("position"),
                      .step = json.at("step"),
                      .sums = values_from_json(json.at("sums")),
                      .best_epoch = json.at("best_epoch"),
                      .best_score = json.at("best_score"),
                      .gradient_norm = json.at("gradient_norm"),
                      .finished = json.at("finished")};
  for (const auto& record : json.at("history")) state.history.push_back(record_from_json(record));
  return state;
}

LossValues values_of(const LossTerms& terms, const Model& model) {
  LossValues values;
  for (const auto& [name, term] : named_terms(terms, model)) values[name] = term.value().item();
  return values;
}

struct Checkpoint {
  SafeTensors content;
  ModelDescription description;
};

/// A checkpoint is replaced whole, so it was not this program that damaged one.
Checkpoint open_checkpoint(const std::filesystem::path& file) {
  try {
    SafeTensors content = SafeTensors::open(file);
    ModelDescription description = description_from_metadata(content.metadata(), file.string());
    return {std::move(content), std::move(description)};
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::data) throw;
    fail(ErrorKind::data, "resume", "{}; delete the file to train anew", error.what());
  }
}

std::string first_non_finite_parameter(const Model& model) {
  for (const Parameter& p : model.named_parameters()) {
    if (!p.variable.requires_gradient()) continue;  // mine's average begins at -inf
    const auto values = p.variable.value().to_vector();
    if (!std::ranges::all_of(values, [](double x) { return std::isfinite(x); })) return p.name;
  }
  return "";
}

/// A parameter belongs to the group with the longest name that its own name starts with; the rest
/// have the section's settings.
AdamW make_optimizer(const OptimizerConfig& config, const ParameterList& parameters) {
  const AdamWGroup defaults{.learning_rate = config.learning_rate,
                            .weight_decay = config.weight_decay,
                            .decay_bias_and_norm = config.decay_bias_and_norm,
                            .beta1 = config.beta1,
                            .beta2 = config.beta2,
                            .epsilon = config.epsilon};
  std::vector<AdamWGroup> groups(config.groups.size() + 1, defaults);  // the last is for the rest
  for (std::size_t g = 0; g < config.groups.size(); ++g) {
    if (config.groups[g].learning_rate > 0)
      groups[g].learning_rate = config.groups[g].learning_rate;
    if (config.groups[g].weight_decay >= 0) groups[g].weight_decay = config.groups[g].weight_decay;
  }
  for (const Parameter& parameter : parameters) {
    std::size_t chosen = config.groups.size();
    for (std::size_t g = 0; g < config.groups.size(); ++g) {
      const bool longer = chosen == config.groups.size() ||
                          config.groups[g].name.size() > config.groups[chosen].name.size();
      if (parameter.name.starts_with(config.groups[g].name) && longer) chosen = g;
    }
    groups[chosen].parameters.push_back(parameter);
  }
  return AdamW(std::move(groups));
}

AdamW make_estimator_optimizer(const Config& config, const Model& model) {
  return AdamW({{.parameters = model.parameters_of(Model::Owner::estimator),
                 .learning_rate = config.loss.estimator_learning_rate,
                 .weight_decay = 0}});
}

/// The tensors whose names start with the prefix, without it.
std::map<std::string, Tensor> with_prefix(const std::map<std::string, Tensor>& tensors,
                                          std::string_view prefix) {
  std::map<std::string, Tensor> chosen;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(prefix)) chosen[name.substr(prefix.size())] = tensor;
  }
  return chosen;
}

class Trainer {
 public:
  Trainer(const Config& config, const PreparedData& data, std::uint64_t seed,
          const TrainOptions& options)
      : config_(config),
        data_(data),
        seed_(seed),
        options_(options),
        model_(std::make_shared<Model>(config, data.modalities, seed)),
        optimizer_(make_optimizer(config.optimizer, model_->parameters_of(Model::Owner::model))),
        estimator_optimizer_(make_estimator_optimizer(config, *model_)),
        units_(batch_units(config, data.dataset, data.split.train)),
        sampler_(make_sampler(config, data, units_, seed)),
        schedule_(Schedule::make(config.optimizer.schedule, total_steps(config, data),
                                 config.optimizer.warmup_fraction)),
        penalty_schedule_(
            PenaltySchedule::make(config.loss.invariance_schedule, config.loss.invariance_start, 1,
                                  std::lround(config.loss.invariance_anneal_fraction *
                                              static_cast<double>(schedule_.total_steps)))) {
    if (model_->needs_environments() && config.loss.environments_from == "data")
      environments_ = data.environments;
    if (model_->device().is_cpu()) return;
    device_steps_.emplace(
        *model_, optimizer_, schedule_,
        DeviceSteps::Options{
            .seed = seed,
            .max_gradient_norm = config.optimizer.gradient_clip,
            .estimator_optimizer = estimator_optimizer_.empty() ? nullptr : &estimator_optimizer_,
            .estimator_steps = config.loss.estimator_steps,
            .longest = longest_sequences(config, data.dataset, data.split.train),
            .record = config.training.capture});
  }

  TrainResult run() {
    state_.finished = config_.training.epochs == 0;
    bool resumed = options_.resume && load_checkpoint();
    if (infers_environments() && environments_.count == 0 && !state_.finished) {
      const InferredEnvironments inferred = infer();
      resumed = resumed || inferred.resumed;
      if (inferred.interrupted) return {model_, state_, true, resumed};
    }
    if (infers_environments() && !options_.directory.empty())
      std::filesystem::remove_all(options_.directory / kReferenceDirectory);
    last_checkpoint_ = Clock::now();
    while (!state_.finished) {
      if (!run_epoch()) {
        save_checkpoint();
        return {model_, state_, true, resumed};
      }
      end_epoch();
      save_checkpoint();
    }
    if (!best_.empty()) load_model_parameters(*model_, best_, "");
    if (!options_.directory.empty()) {
      save_model(options_.directory / kModelFile, *model_, description(), data_.standardiser);
    }
    return {model_, state_, false, resumed};
  }

 private:
  /// Samples units by number.
  static BatchSampler make_sampler(const Config& config, const PreparedData& data,
                                   const Units& units, std::uint64_t seed) {
    std::vector<std::int64_t> numbers(units.size());
    std::iota(numbers.begin(), numbers.end(), 0);
    // Groups are long in samples, not in steps: only single samples are bucketed by length.
    const bool bucket = config.data.bucket_by_length && config.data.context == "none";
    return BatchSampler(
        std::move(numbers),
        {.batch_size = config.training.batch_size, .bucket_batches = bucket ? 16 : 0, .seed = seed},
        bucket ? sample_lengths(data.dataset, data.fields, data.split.train)
               : std::vector<std::int64_t>{});
  }

  bool infers_environments() const {
    return model_->needs_environments() && config_.loss.environments_from == "inferred";
  }

  InferredEnvironments infer() {
    TrainOptions options = options_;
    options.on_step = nullptr;
    options.trace = nullptr;
    if (!options.directory.empty()) options.directory /= kReferenceDirectory;
    const InferredEnvironments inferred = train_reference(config_, data_, seed_, options);
    if (inferred.interrupted) return inferred;
    environments_ = inferred.environments;
    save_checkpoint();  // from here on the reference model is not needed
    return inferred;
  }

  /// Runs the rest of the epoch under way; false when interrupted.
  bool run_epoch() {
    const auto epoch = static_cast<std::uint32_t>(state_.epoch);
    Prefetcher prefetcher(
        [&](std::int64_t position) {
          const bool traced = owns_trace_ && options_.trace->recording();
          const TraceScope scope(traced ? options_.trace : nullptr, "prefetch");
          const TraceSpan span(TraceKind::op, "gather");
          return gather(data_.dataset, data_.fields,
                        samples_of(units_, sampler_.batch(epoch, position)));
        },
        state_.position, sampler_.batches_per_epoch());
    DeviceBatches batches(
        prefetcher, [&](const Batch& batch) { return input_of(batch); }, model_->device());
    for (;;) {
      const TraceStep traced(options_.trace, state_.step + steps_pending() + 1);
      owns_trace_ = options_.trace != nullptr && options_.trace->owned_here();
      const auto batch = batches.next();
      if (!batch) break;
      submit_step(batch->batch, batch->input);
      trace_phase("other");
      const bool stopping = InterruptGuard::requested();
      const bool save = checkpoint_due();
      // One step behind: the device has the next while the host reads what the last one did.
      while (steps_under_way_.size() > (stopping || save ? 0 : 1)) finish_step();
      if (stopping) return false;
      if (save) save_checkpoint();
    }
    while (!steps_under_way_.empty()) finish_step();
    return true;
  }

  ModelInput input_of(const Batch& batch) const {
    ModelInput input = unit_input(config_, data_.dataset, batch);
    if (environments_.count > 0) input.environments = environments_.groups(batch.indices);
    return input;
  }

  std::int64_t steps_pending() const { return std::ssize(steps_under_way_); }

  void submit_step(const Batch& batch, const ModelInput& input) {
    const std::int64_t step = state_.step + steps_pending();
    steps_under_way_.push_back(batch.indices[0]);
    ModelInput scheduled = input;
    if (penalty_schedule_.kind != PenaltySchedule::Kind::constant)
      scheduled.invariance_factor = Tensor::full({}, penalty_schedule_.weight(step));
    if (device_steps_) return device_steps_->submit(scheduled);
    train_step(scheduled);
    finish_step();
  }

  /// The oldest step under way becomes one of the steps done. On another device than the CPU its
  /// results are waited for.
  void finish_step() {
    if (device_steps_) {
      const DeviceSteps::Report report = device_steps_->take();
      losses_ = {report.losses.begin(), report.losses.end()};
      if (!report.failure.empty()) stop_non_finite(report.failure);
      state_.gradient_norm = report.gradient_norm;
    }
    for (const auto& [term, value] : losses_) state_.sums[term] += value;
    steps_under_way_.pop_front();
    ++state_.position;
    ++state_.step;
    if (options_.on_step) options_.on_step({state_, schedule_.total_steps, losses_});
  }

  void train_step(const ModelInput& input) {
    const RandomStreams streams{.seed = seed_, .step = static_cast<std::uint32_t>(state_.step)};
    trace_phase("forward");
    const ForwardOutput output = model_->forward(input, Mode::training, streams);
    losses_ = values_of(output.losses, *model_);
    for (const auto& [term, value] : losses_) {
      if (!std::isfinite(value) && term != "total")
        stop_non_finite(fmt::format("the loss term '{}' is {}", term, value));
    }
    if (!std::isfinite(losses_.at("total"))) stop_non_finite("the total loss is not finite");
    trace_phase("backward");
    optimizer_.zero_gradients();
    backward(output.losses.total);
    trace_phase("optimizer");
    try {
      state_.gradient_norm =
          optimizer_.step(schedule_.factor(state_.step), config_.optimizer.gradient_clip);
      if (!output.estimator_samples.empty()) step_estimators(output);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::numeric) throw;
      stop_non_finite(error.what());
    }
  }

  /// The first of these steps starts from the losses that were reported.
  void step_estimators(const ForwardOutput& output) {
    std::vector<Variable> losses = output.losses.estimator;
    for (std::int64_t k = 0; k < config_.loss.estimator_steps; ++k) {
      trace_phase("forward");
      if (k > 0) losses = model_->estimator_losses(output.estimator_samples);
      trace_phase("backward");
      estimator_optimizer_.zero_gradients();
      backward(ops::sum_of(losses));
      trace_phase("optimizer");
      estimator_optimizer_.step();
    }
  }

  /// In the oldest step under way.
  [[noreturn]] void stop_non_finite(const std::string& what) {
    const std::string parameter = first_non_finite_parameter(*model_);
    fail(ErrorKind::numeric, "train",
         "{} in batch {} of epoch {} (first sample '{}'); {}. The last checkpoint is kept. Try a "
         "smaller {}",
         what, state_.position + 1, state_.epoch + 1, data_.dataset.ids[steps_under_way_.front()],
         parameter.empty() ? "all parameters are finite"
                           : fmt::format("parameter '{}' is not finite", parameter),
         parameter.starts_with("estimator.")
             ? "loss.estimator_learning_rate"
             : "optimizer.learning_rate, or optimizer.gradient_clip");
  }

  void end_epoch() {
    EpochRecord record{
        .epoch = state_.epoch + 1,
        .step = state_.step,
        .learning_rate = config_.optimizer.learning_rate * schedule_.factor(state_.step - 1),
        .gradient_norm = state_.gradient_norm};
    for (const auto& [term, sum] : state_.sums) {
      record.train[term] = sum / static_cast<double>(sampler_.batches_per_epoch());
    }
    if (!data_.split.valid.empty()) validate_epoch(record);
    state_.history.push_back(record);
    ++state_.epoch;
    state_.position = 0;
    state_.sums.clear();
    const auto patience = config_.training.patience;
    const bool waited =
        patience > 0 && state_.best_epoch > 0 && state_.epoch - state_.best_epoch >= patience;
    state_.finished = state_.epoch >= config_.training.epochs || waited;
  }

  /// Scores the epoch on the validation part; keeps the parameters when they are the best so far
  /// and the rule asks for it.
  void validate_epoch(EpochRecord& record) {
    const Predictions predictions = predict(*model_, data_, data_.split.valid);
    record.valid_loss = predictions.loss;
    const MetricValues metrics = metrics_of(predictions, data_.metric);
    for (const MetricValue& metric : metrics) record.valid[metric.name] = metric.value;
    const bool by_metric = config_.training.checkpoint == "best_metric";
    const MetricValue& first = metrics.values.front();
    const double score = !by_metric               ? -predictions.loss
                         : first.higher_is_better ? first.value
                                                  : -first.value;
    if (state_.best_epoch != 0 && !(score > state_.best_score)) return;
    state_.best_epoch = record.epoch;
    state_.best_score = score;
    if (config_.training.checkpoint == "last") return;
    best_.clear();
    for (const Parameter& p : model_->named_parameters())
      best_[p.name] = p.variable.value().clone();
  }

  ModelDescription description() const {
    return {.config = config_,
            .modalities = data_.modalities,
            .seed = seed_,
            .dataset = data_.dataset.name};
  }

  bool checkpoint_due() const {
    if (options_.directory.empty()) return false;
    const auto given = state_.step + steps_pending();
    if (options_.checkpoint_steps > 0 && given % options_.checkpoint_steps == 0) return true;
    return std::chrono::duration<double>(Clock::now() - last_checkpoint_).count() >=
           options_.checkpoint_seconds;
  }

  void save_checkpoint() {
    if (options_.directory.empty()) return;
    NamedTensors tensors = model_tensors(*model_, data_.standardiser);
    for (const auto& [name, tensor] : optimizer_.state())
      tensors.emplace_back(kOptimizerPrefix + name, tensor);
    if (!estimator_optimizer_.empty()) {
      for (const auto& [name, tensor] : estimator_optimizer_.state())
        tensors.emplace_back(kEstimatorOptimizerPrefix + name, tensor);
    }
    for (const auto& [name, tensor] : best_) tensors.emplace_back(kBestPrefix + name, tensor);
    if (infers_environments()) tensors.emplace_back(kEnvironments, environments_.labels);
    auto metadata = description_to_metadata(description());
    metadata["state"] = to_json(state_).dump();
    try {
      write_safetensors(options_.directory / kCheckpointFile, tensors, metadata);
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::io) throw;
      fail(ErrorKind::io, "checkpoint",
           "{}; the checkpoint before is kept: make room and run the same command again",
           error.what());
    }
    last_checkpoint_ = Clock::now();
  }

  /// False when there is none.
  bool load_checkpoint() {
    const auto file = options_.directory / kCheckpointFile;
    if (options_.directory.empty() || !std::filesystem::exists(file)) return false;
    const auto [content, stored] = open_checkpoint(file);
    require(
        stored.dataset == data_.dataset.name, "resume",
        "{} was trained on the data set '{}', this run uses '{}'; choose another output directory",
        file.string(), stored.dataset, data_.dataset.name);
    require(stored.config == without_device(config_) && stored.seed == seed_, "resume",
            "{} belongs to another configuration or seed; choose another output directory, or pass "
            "--restart to train "
            "anew",
            file.string());
    require_modalities(stored, data_.modalities, data_.dataset.name);
    std::map<std::string, Tensor> tensors;
    for (const std::string& name : content.names()) tensors[name] = content.at(name);
    load_model_parameters(*model_, tensors, "parameter.");
    for (const auto& [name, tensor] : with_prefix(tensors, kBestPrefix))
      best_[name] = tensor.clone();
    optimizer_.load_state(with_prefix(tensors, kOptimizerPrefix));
    if (!estimator_optimizer_.empty())
      estimator_optimizer_.load_state(with_prefix(tensors, kEstimatorOptimizerPrefix));
    if (infers_environments()) {
      environments_ = {content.at(kEnvironments).clone(), 2};
      require(
          environments_.labels.numel() == data_.dataset.size(), "resume",
          "{} names the environments of {} samples, '{}' has {}; choose another output directory",
          file.string(), environments_.labels.numel(), data_.dataset.name, data_.dataset.size());
    }
    try {
      state_ = state_from_json(nlohmann::json::parse(content.metadata().at("state")));
    } catch (const std::exception& error) {
      fail(ErrorKind::data, file.string(), "its training state does not parse: {}", error.what());
    }
    return true;
  }

  const Config config_;
  const PreparedData& data_;
  const std::uint64_t seed_;
  const TrainOptions& options_;
  std::shared_ptr<Model> model_;
  AdamW optimizer_, estimator_optimizer_;
  const Units units_;
  BatchSampler sampler_;
  const Schedule schedule_;
  const PenaltySchedule penalty_schedule_;   // of R_inv's weight, as a factor
  SampleEnvironments environments_;          // none where they are the noisy variants
  std::optional<DeviceSteps> device_steps_;  // none on the CPU
  TrainingState state_;
  std::deque<std::int64_t> steps_under_way_;  // of each the batch's first sample; oldest first
  std::atomic<bool> owns_trace_{false};       // then what is prefetched for this trainer is noted
  LossValues losses_;                         // of the last finished step
  std::map<std::string, Tensor> best_;
  Clock::time_point last_checkpoint_;
};

}  // namespace

nlohmann::ordered_json to_json(const std::vector<EpochRecord>& history) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const EpochRecord& record : history) json.emplace_back(to_json(record));
  return json;
}

std::int64_t total_steps(const Config& config, const PreparedData& data) {
  const auto units =
      static_cast<std::int64_t>(batch_units(config, data.dataset, data.split.train).size());
  const auto batch = config.training.batch_size;
  return (units + batch - 1) / batch * config.training.epochs;
}

std::optional<ModelDescription> checkpoint_description(const std::filesystem::path& directory) {
  const auto file = directory / kCheckpointFile;
  if (!std::filesystem::exists(file)) return std::nullopt;
  return open_checkpoint(file).description;
}

TrainResult train(const Config& config, const PreparedData& data, std::uint64_t seed,
                  const TrainOptions& options) {
  require(config.training.checkpoint == "last" || !data.split.valid.empty(), "train",
          "training.checkpoint = \"{}\" needs a validation part, which split '{}' lacks; use "
          "\"last\", or "
          "data.validation_fraction",
          config.training.checkpoint, config.data.split);
  require(config.training.patience == 0 || !data.split.valid.empty(), "train",
          "training.patience = {} needs a validation part, which split '{}' lacks; use 0, or "
          "data.validation_fraction",
          config.training.patience, config.data.split);
  if (!options.directory.empty()) std::filesystem::create_directories(options.directory);
  return Trainer(config, data, seed, options).run();
}

}  // namespace cmir
