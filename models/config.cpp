#include "models/config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "core/device.h"
#include "core/error.h"

namespace cmir {

namespace {

void validate_environments(const Config& config) {
  const LossConfig& loss = config.loss;
  if (loss.environments_from == "noise") {
    require(loss.mmrex_minimum_weight * static_cast<double>(loss.environments + 1) <= 1, "config",
            "loss.mmrex_minimum_weight = {} is above 1 / (K + 1): the weights of the {} variants "
            "add to 1",
            loss.mmrex_minimum_weight, loss.environments + 1);
    return;
  }
  for (const char* paired : {"l1", "kl", "output_difference"}) {
    require(loss.invariance != paired, "config",
            "loss.invariance = \"{}\" compares noisy variants of one sample, which "
            "loss.environments_from = \"{}\" has not; use irmv1, vrex, mmrex, mmd or coral",
            paired, loss.environments_from);
  }
  require(
      loss.environments_from != "inferred" || loss.mmrex_minimum_weight <= 0.5, "config",
      "loss.mmrex_minimum_weight = {} is above 1 / 2: the weights of both inferred environments "
      "add to 1",
      loss.mmrex_minimum_weight);
  require(loss.environments_from != "data" || !config.data.environment.empty(), "config",
          "loss.environments_from = \"data\" needs data.environment, the name of what numbers each "
          "sample's environment");
}

void validate_fusion(const Config& config, std::size_t reaching) {
  const ModelConfig& model = config.model;
  if (model.fusion == "concat") return;
  require(reaching == config.data.modalities.size(), "config",
          "model.fusion = \"crossmodal\" fuses every modality with every other; leave fuse_into "
          "empty");
  require(reaching >= 2, "config", "model.fusion = \"crossmodal\" needs two modalities or more");
  std::vector<std::int64_t> divisors;
  for (std::int64_t heads = 1; heads <= std::min<std::int64_t>(model.shared_width, 16); ++heads) {
    if (model.shared_width % heads == 0) divisors.push_back(heads);
  }
  require(model.shared_width % model.fusion_heads == 0, "config",
          "model.fusion_heads = {} do not divide model.shared_width = {}; use one of {}",
          model.fusion_heads, model.shared_width, fmt::join(divisors, ", "));
}

}  // namespace

void validate(const Config& config) {
  const auto& data = config.data;
  std::set<std::string> names;
  for (const ModalityConfig& m : data.modalities) {
    require(!m.name.empty() && m.name.find('.') == std::string::npos, "config",
            "a modality needs a name without dots, got '{}'", m.name);
    require(names.insert(m.name).second, "config", "two modalities are called '{}'", m.name);
    require(!m.feature.empty(), "config", "modality '{}' names no feature of the data set", m.name);
    require(m.network != "context_conv" || data.context == "group", "config",
            "modality '{}': network = 'context_conv' needs data.context = \"group\"", m.name);
    require(m.kernel % 2 == 1, "config",
            "modality '{}': kernel = {} must be odd, so that its padding is symmetric", m.name,
            m.kernel);
  }
  std::size_t reaching = 0;
  for (const ModalityConfig& m : data.modalities) {
    reaching += m.fuse_into.empty();
    if (m.fuse_into.empty()) continue;
    const auto target = std::ranges::find(data.modalities, m.fuse_into, &ModalityConfig::name);
    require(target != data.modalities.end() && target->name != m.name && target->fuse_into.empty(),
            "config",
            "modality '{}': fuse_into = '{}' must name another modality that is not itself fused",
            m.name, m.fuse_into);
  }
  require(reaching >= 1, "config",
          "data.modalities must list at least one modality that is not fused into another");

  const std::string& loss = config.loss.prediction;
  const std::string& task = data.task;
  const bool suits = task == "regression" ? loss == "mse" || loss == "mae"
                     : task == "binary"   ? loss == "bce"
                                          : loss == "cross_entropy";
  require(
      suits, "config",
      "loss.prediction = '{}' does not suit data.task = '{}' (regression: mse, mae; binary: bce; "
      "multiclass: cross_entropy)",
      loss, task);
  const std::int64_t outputs = config.model.outputs;
  require(task == "multiclass" ? outputs >= 2 : outputs == 1, "config",
          "model.outputs = {} does not suit data.task = '{}' (multiclass: the number of classes; "
          "otherwise 1)",
          outputs, task);
  validate_environments(config);
  validate_fusion(config, reaching);
  const std::string& sufficiency = config.loss.sufficiency;
  require(sufficiency == "none" || sufficiency == "input" || reaching >= 2, "config",
          "loss.sufficiency = '{}' compares modalities, and only one reaches the predictor",
          sufficiency);
  (void)parse_device(config.training.device);
  const auto& noise = config.noise;
  require((noise.train_kind == "none") <= (noise.train_rate == 0) &&
              (noise.test_kind == "none") <= (noise.test_rate == 0),
          "config", "a noise rate above 0 needs a kind other than 'none'");
  std::set<std::string> groups;
  for (const ParameterGroupConfig& group : config.optimizer.groups) {
    require(groups.insert(group.name).second, "config", "two optimizer.groups are called '{}'",
            group.name);
    require(!group.name.starts_with("estimator"), "config",
            "optimizer.groups has '{}', but estimators have an optimizer of their own: use "
            "loss.estimator_learning_rate",
            group.name);
  }
}

Config without_device(Config config) {
  config.training.device = TrainingConfig{}.device;
  config.training.capture = TrainingConfig{}.capture;
  return config;
}

}  // namespace cmir
