#include "models/training/environment_inference.h"

#include <algorithm>

#include "core/error.h"
#include "kernels/invariance/loss_slope.h"

namespace cmir {
namespace {

kernels::PointwiseLossKind pointwise_kind(const std::string& prediction) {
  using Kind = kernels::PointwiseLossKind;
  return prediction == "mse"   ? Kind::squared
         : prediction == "mae" ? Kind::absolute
                               : Kind::binary_logistic;
}

/// Without what the reference model has no use for.
Config reference_config(Config config) {
  config.model.framework = "vanilla";
  config.loss.environments_from = LossConfig{}.environments_from;
  config.loss.mmrex_minimum_weight = LossConfig{}.mmrex_minimum_weight;
  return config;
}

bool is_checkpoint_of(const Config& config, std::uint64_t seed,
                      const std::filesystem::path& directory) {
  const auto stored = checkpoint_description(directory);
  return stored && stored->config == without_device(config) && stored->seed == seed;
}

}  // namespace

std::vector<std::int32_t> infer_environments(std::span<const double> slopes) {
  std::vector<std::int32_t> environments(slopes.size());
  std::ranges::transform(slopes, environments.begin(), [](double s) { return s > 0 ? 1 : 0; });
  return environments;
}

std::vector<double> loss_slopes(const LossConfig& config, const Predictions& predictions) {
  const auto rows = static_cast<std::int64_t>(predictions.labels.size());
  require(rows > 0 && predictions.values.size() % predictions.labels.size() == 0, "loss_slopes",
          "needs labelled predictions, got {} values of {} samples", predictions.values.size(),
          rows);
  const auto width = static_cast<std::int64_t>(predictions.values.size()) / rows;
  std::vector<double> slopes(predictions.labels.size());
  if (config.prediction == "cross_entropy") {
    const std::vector<std::int32_t> classes(predictions.labels.begin(), predictions.labels.end());
    kernels::run(Device{},
                 kernels::CrossEntropySlope<double>{predictions.values.data(), classes.data(),
                                                    slopes.data(), nullptr, rows, rows, width});
  } else {
    kernels::run(Device{}, kernels::PointwiseSlope<double>{pointwise_kind(config.prediction), 1.0,
                                                           predictions.values.data(),
                                                           predictions.labels.data(), slopes.data(),
                                                           nullptr, rows, rows, width});
  }
  return slopes;
}

InferredEnvironments train_reference(const Config& config, const PreparedData& data,
                                     std::uint64_t seed, TrainOptions options) {
  const Config reference = reference_config(config);
  options.resume = options.resume && !options.directory.empty() &&
                   is_checkpoint_of(reference, seed, options.directory);
  const TrainResult trained = train(reference, data, seed, options);
  if (trained.interrupted) return {.interrupted = true, .resumed = trained.resumed};
  trained.model->set_noise({});
  const Predictions predictions = predict(*trained.model, data, data.split.train);
  const auto of = infer_environments(loss_slopes(config.loss, predictions));
  const auto ones = std::ranges::count(of, 1);
  require(ones > 0 && ones < std::ssize(of), "train",
          "loss.environments_from = \"inferred\": the reference model errs in one way on all {} "
          "training samples, which makes one environment; train it less (training.epochs), or name "
          "environments by \"data\"",
          of.size());
  InferredEnvironments inferred{
      .environments = {Tensor::full({data.dataset.size()}, -1, DType::i32), 2},
      .resumed = trained.resumed};
  const auto labels = inferred.environments.labels.mutable_span<std::int32_t>();
  for (std::size_t i = 0; i < of.size(); ++i) labels[predictions.indices[i]] = of[i];
  return inferred;
}

}  // namespace cmir
