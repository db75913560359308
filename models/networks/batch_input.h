// From a data set's fields to a model's modalities, as a configuration pairs them.
#pragma once

#include <vector>

#include "models/config.h"
#include "models/data/batch.h"
#include "models/networks/input.h"

namespace cmir {

/// What `dataset` holds for each of config.data.modalities. Error: a feature, token or embedding
/// name that the data set does not have.
std::vector<ModalityInfo> describe_modalities(const Config& config, const Dataset& dataset);

/// The fields that a batch needs: each feature once, and the label.
BatchFields batch_fields(const Config& config);

/// The batch by modality name. Sequences longer than config.data.max_length > 0 keep their first
/// rows; otherwise memory is shared. Labels are i32 classes for cross_entropy, else f32.
ModelInput model_input(const Config& config, const Batch& batch);

}  // namespace cmir
