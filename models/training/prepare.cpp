#include "models/training/prepare.h"

#include <algorithm>

#include "core/error.h"

namespace cmir {
namespace {

void check_label(const Config& config, const Dataset& dataset) {
  const Label& label = dataset.label(config.data.label);
  const std::string& task = config.data.task;
  require((label.kind != LabelKind::regression) == (task != "regression") &&
              (task != "binary" || label.kind == LabelKind::binary),
          "data", "label '{}' of '{}' is {}, but data.task = \"{}\"; choose another label or task",
          config.data.label, dataset.name, name_of(label.kind), task);
  require(task != "multiclass" || label.outputs() <= config.model.outputs, "data",
          "label '{}' has {} classes, but model.outputs = {}", config.data.label, label.outputs(),
          config.model.outputs);
}

/// The label field and the split; inference does without where the data set has none.
void resolve_samples(const Config& config, const Dataset& dataset, const PrepareOptions& options,
                     PreparedData& data) {
  if (options.inference) {
    data.fields.label.clear();
  } else {
    check_label(config, dataset);
  }
  const bool has_split =
      dataset.splits.contains(config.data.split) || dataset.folds.contains(config.data.split);
  if (options.inference && !has_split) return;
  data.split = resolve_split(
      dataset, config.data.split,
      {.test_fold = static_cast<std::int32_t>(std::max<std::int64_t>(config.data.fold, 0)),
       .validation_fraction = config.data.validation_fraction,
       .merge_validation = config.data.merge_validation});
}

}  // namespace

PreparedData prepare_data(const Config& config, Dataset dataset, const PrepareOptions& options) {
  PreparedData data;
  data.modalities = describe_modalities(config, dataset);
  data.fields = batch_fields(config);
  data.metric = parse_metric_family(config.data.metric);
  validate(dataset).require_ok(dataset.name);
  resolve_samples(config, dataset, options, data);
  if (!options.inference && !config.data.environment.empty())
    data.environments = environments_of_data(dataset, config.data.environment, data.split.train);
  std::vector<std::string> scaled;
  for (const ModalityConfig& modality : config.data.modalities) {
    if (modality.standardise && dataset.features.contains(modality.feature))
      scaled.push_back(modality.feature);
  }
  if (options.standardiser != nullptr) {
    data.standardiser = *options.standardiser;
  } else if (config.data.standardise && !scaled.empty()) {
    data.standardiser = Standardiser::fit(dataset, data.split.train, scaled);
  }
  data.standardiser.apply(dataset);
  data.dataset = std::move(dataset);
  return data;
}

}  // namespace cmir
