// From a configuration and a data set to what training and evaluation read: chosen features,
// scaled, and a split.
#pragma once

#include <vector>

#include "models/config.h"
#include "models/data/batch.h"
#include "models/data/dataset.h"
#include "models/data/standardise.h"
#include "models/evaluation/metrics.h"
#include "models/networks/batch_input.h"
#include "models/training/sample_environments.h"

namespace cmir {

struct PreparedData {
  Dataset dataset;  ///< the features that the configuration names are scaled
  Split split;
  BatchFields fields;
  std::vector<ModalityInfo> modalities;  ///< one per [[data.modalities]], in its order
  Standardiser standardiser;
  MetricFamily metric = MetricFamily::sentiment3;
  SampleEnvironments environments;  ///< of data.environment; none where it is empty
};

struct PrepareOptions {
  /// A trained model's; otherwise statistics of the training samples are used.
  const Standardiser* standardiser = nullptr;
  /// For prediction on data of the user: neither a split nor a label is needed, and `split` may
  /// stay empty.
  bool inference = false;
};

/// Validates the data set (an Error lists what is wrong with it), resolves the split and scales the
/// features. Errors: a feature, token or label name that the data set lacks (the message lists
/// those it has), a label that does not suit data.task, features of another width than the
/// standardiser's; for training, environments_of_data()'s.
PreparedData prepare_data(const Config& config, Dataset dataset,
                          const PrepareOptions& options = {});

}  // namespace cmir
