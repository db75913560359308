// Predictions and metrics of a model over samples of a data set.
#pragma once

#include <span>
#include <vector>

#include "models/evaluation/metrics.h"
#include "models/networks/cmir.h"
#include "models/training/prepare.h"

namespace cmir {

struct Predictions {
  std::vector<std::int64_t> indices;  ///< samples of the data set
  std::vector<double> values;         ///< [samples, outputs]: regression values or logits
  std::vector<double> labels;         ///< [samples]; empty where the data has none
  double loss = 0;                    ///< mean prediction loss
};

/// Inference on the samples `indices` (ascending; Predictions::indices has the order of the
/// results), with the corruption of [noise].test whose random numbers follow from
/// training.noise_seed. A prediction that is not finite is an Error that names the sample.
Predictions predict(const Model& model, const PreparedData& data,
                    std::span<const std::int64_t> indices);

/// The metrics of the data's family.
MetricValues metrics_of(const Predictions& predictions, MetricFamily family);

/// Representations of the samples, one entry per modality, each [samples, d] and in the order of
/// batch_units(): that of `indices` unless data.context groups them.
struct SampleRepresentations {
  std::string modality;
  std::vector<double> unimodal, invariant, spurious;  ///< row-major; empty where the model has none
  std::int64_t width = 0;
};
std::vector<SampleRepresentations> represent(const Model& model, const PreparedData& data,
                                             std::span<const std::int64_t> indices,
                                             int environment = 0);

}  // namespace cmir
