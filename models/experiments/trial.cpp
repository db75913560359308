#include "models/experiments/trial.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <mutex>

#include "core/error.h"
#include "core/parallel.h"
#include "models/evaluation/report.h"
#include "models/training/evaluate.h"
#include "models/training/interrupt.h"
#include "models/training/progress.h"

namespace cmir {
namespace {

/// File name from a trial's name: letters, digits, '.', '-' and '_' stay.
std::string slug(const Trial& trial) {
  std::string text = trial.name;
  for (char& c : text) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-') c = '_';
  }
  return fmt::format("{}-seed{}", text, trial.seed);
}

Json fingerprint(const Trial& trial, const Dataset& dataset) {
  Json conditions = Json::array();
  for (const Condition& c : trial.conditions) {
    conditions.push_back(
        {c.name, c.part, c.noise.test_kind, c.noise.test_rate, c.noise.laplace_scale, c.zeroed});
  }
  // A result of one device serves another.
  const Json config = to_json(without_device(trial.config));
  return {{"config", config},
          {"seed", trial.seed},
          {"conditions", conditions},
          {"dataset", dataset.name},
          {"samples", dataset.size()}};
}

Json to_json(const TrialResult& result) {
  return {{"metrics", result.metrics},
          {"extra", result.extra},
          {"seconds", result.seconds},
          {"parameters", result.parameters}};
}

Values values_from_json(const Json& json) {
  Values values;
  for (const auto& [name, value] : json.items()) {
    values[name] = value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
  }
  return values;
}

TrialResult result_from_json(const Json& json) {
  TrialResult result{.extra = values_from_json(json.at("extra")),
                     .seconds = json.at("seconds"),
                     .parameters = json.at("parameters")};
  for (const auto& [condition, values] : json.at("metrics").items()) {
    result.metrics[condition] = values_from_json(values);
  }
  return result;
}

/// The data with one modality's features at 0: what a model that leans on it loses.
PreparedData without_modality(const PreparedData& data, const Config& config,
                              const std::string& modality) {
  PreparedData copy = data;
  for (const ModalityConfig& m : config.data.modalities) {
    if (m.name != modality) continue;
    const auto feature = copy.dataset.features.find(m.feature);
    require(feature != copy.dataset.features.end(), "experiment",
            "modality '{}' has no numeric features to set to 0", modality);
    const Tensor& values = feature->second.values;
    feature->second.values = Tensor::zeros(values.shape(), values.dtype());
    return copy;
  }
  fail(ErrorKind::usage, "experiment", "there is no modality '{}'", modality);
}

class Runner {
 public:
  Runner(const std::vector<Trial>& trials, const Dataset& dataset, const TrialRunOptions& options)
      : trials_(trials),
        dataset_(dataset),
        options_(options),
        results_(trials.size()),
        done_(trials.size()) {}

  std::vector<TrialResult> run() {
    std::vector<std::size_t> open;
    std::int64_t steps = 0;
    for (std::size_t i = 0; i < trials_.size(); ++i) {
      if (load_finished(i)) continue;
      drop_checkpoint_of_another_run(i);
      open.push_back(i);
      steps += total_steps(trials_[i].config, prepared(trials_[i].config));
    }
    if (options_.show_progress && !open.empty()) {
      progress_ = std::make_unique<Progress>(fmt::format("{} trials", open.size()), "step", steps);
    }
    const auto run_some = [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t i = begin; i < end && !InterruptGuard::requested(); ++i) run_one(open[i]);
    };
    const auto count = static_cast<std::int64_t>(open.size());
    if (uses_gpu()) {
      run_some(0, count);  // a graph capture must have the GPU to itself
    } else {
      parallel_for(0, count, 1, run_some);
    }
    progress_.reset();
    if (InterruptGuard::requested()) throw Interrupted();
    return std::move(results_);
  }

 private:
  bool uses_gpu() const {
    return std::ranges::any_of(trials_, [](const Trial& trial) {
      return parse_device(trial.config.training.device).type == DeviceType::cuda;
    });
  }
  std::filesystem::path directory(std::size_t i) const {
    return options_.directory / "trials" / slug(trials_[i]);
  }

  /// Trials of one data configuration share the scaled copy. Filled before the threads start.
  const PreparedData& prepared(const Config& config) {
    Config key;
    key.data = config.data;
    auto& slot = prepared_[to_json(key).dump()];
    if (!slot) slot = std::make_unique<PreparedData>(prepare_data(config, dataset_));
    return *slot;
  }
  const PreparedData& prepared_already(const Config& config) const {
    Config key;
    key.data = config.data;
    return *prepared_.at(to_json(key).dump());
  }

  bool load_finished(std::size_t i) {
    const auto file = directory(i) / "result.json";
    if (options_.directory.empty() || !std::filesystem::exists(file)) return false;
    const Json json = read_json(file.string());
    if (!json.contains("trial") || json.at("trial") != fingerprint(trials_[i], dataset_)) {
      fmt::print(stderr, "{} is of another configuration or data set: training anew replaces it\n",
                 file.string());
      return false;
    }
    results_[i] = result_from_json(json.at("result"));
    return true;
  }

  /// A checkpoint of an earlier configuration under the same name is of no use here: train() would
  /// refuse it.
  void drop_checkpoint_of_another_run(std::size_t i) const {
    if (options_.directory.empty()) return;
    const auto stored = checkpoint_description(directory(i));
    if (!stored ||
        (stored->config == without_device(trials_[i].config) && stored->seed == trials_[i].seed))
      return;
    const auto file = directory(i) / kCheckpointFile;
    fmt::print(stderr, "{} is of another configuration or seed: training starts anew\n",
               file.string());
    std::filesystem::remove(file);
  }

  void run_one(std::size_t i) {
    const Trial& trial = trials_[i];
    const PreparedData& data = prepared_already(trial.config);
    const auto start = std::chrono::steady_clock::now();
    TrainOptions options;
    options.directory = options_.directory.empty() ? "" : directory(i);
    options.checkpoint_steps = options_.checkpoint_steps;
    options.trace = options_.trace;
    options.on_step = [&](const StepReport& report) { on_step(i, report); };
    const TrainResult trained = train(trial.config, data, trial.seed, options);
    if (trained.interrupted) return;
    TrialResult& result = results_[i];
    const auto milliseconds_since_start = [&] {
      return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
          .count();
    };
    const double step_milliseconds =
        trained.resumed ? std::numeric_limits<double>::quiet_NaN()
                        : milliseconds_since_start() /
                              static_cast<double>(std::max<std::int64_t>(1, trained.state.step));
    for (const Condition& condition : trial.conditions) {
      result.metrics[condition.name] = evaluate(*trained.model, trial, data, condition);
    }
    if (options_.analyse) result.extra = options_.analyse(trial, *trained.model, data);
    result.extra["step milliseconds"] = step_milliseconds;
    for (const Parameter& p : trained.model->named_parameters())
      result.parameters += p.variable.value().numel();
    result.seconds = milliseconds_since_start() / 1000;
    if (options_.directory.empty()) return;
    write_json((directory(i) / "history.json").string(), to_json(trained.state.history));
    write_json((directory(i) / "result.json").string(),
               {{"trial", fingerprint(trial, dataset_)}, {"result", to_json(result)}});
    std::filesystem::remove(directory(i) / kCheckpointFile);
    if (!options_.keep_models) std::filesystem::remove(directory(i) / kModelFile);
  }

  static Values evaluate(Model& model, const Trial& trial, const PreparedData& data,
                         const Condition& condition) {
    NoiseConfig noise = trial.config.noise;
    noise.test_kind = condition.noise.test_kind;
    noise.test_rate = condition.noise.test_rate;
    noise.laplace_scale = condition.noise.laplace_scale;
    model.set_noise(noise);
    const auto& part = data.split.part(condition.part);
    const Predictions predictions =
        condition.zeroed.empty()
            ? predict(model, data, part)
            : predict(model, without_modality(data, trial.config, condition.zeroed), part);
    model.set_noise(trial.config.noise);
    Values values{{"loss", predictions.loss}};
    for (const MetricValue& metric : metrics_of(predictions, data.metric))
      values[metric.name] = metric.value;
    return values;
  }

  void on_step(std::size_t i, const StepReport& report) {
    if (!progress_) return;
    std::lock_guard lock(progress_mutex_);
    steps_done_ += report.state.step - done_[i];
    done_[i] = report.state.step;
    progress_->update(steps_done_, fmt::format("{} seed {} epoch {} loss {:.4f}", trials_[i].name,
                                               trials_[i].seed, report.state.epoch + 1,
                                               report.losses.at("total")));
  }

  const std::vector<Trial>& trials_;
  const Dataset& dataset_;
  const TrialRunOptions& options_;
  std::vector<TrialResult> results_;
  std::map<std::string, std::unique_ptr<PreparedData>> prepared_;
  std::unique_ptr<Progress> progress_;
  std::mutex progress_mutex_;
  std::vector<std::int64_t> done_;
  std::int64_t steps_done_ = 0;
};

}  // namespace

std::vector<TrialResult> run_trials(const std::vector<Trial>& trials, const Dataset& dataset,
                                    const TrialRunOptions& options) {
  return Runner(trials, dataset, options).run();
}

std::vector<Condition> plain_conditions(const Split& split) {
  std::vector<Condition> conditions;
  if (!split.test.empty()) conditions.push_back({.name = "test", .part = "test"});
  if (!split.test_ood.empty()) conditions.push_back({.name = "test_ood", .part = "test_ood"});
  return conditions;
}

}  // namespace cmir
