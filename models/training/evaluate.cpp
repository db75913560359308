#include "models/training/evaluate.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "models/training/units.h"

namespace cmir {
namespace {

constexpr std::size_t kBatch = 256;

/// Calls body(batch, input, streams) for batches that cover `indices`, whole units at a time, in
/// the order of batch_units().
template <class Body>
void for_each_batch(const Model& model, const PreparedData& data,
                    std::span<const std::int64_t> indices, Body&& body) {
  const auto seed = static_cast<std::uint64_t>(model.config().training.noise_seed);
  const Units units = batch_units(model.config(), data.dataset, indices);
  std::uint32_t step = 0;
  for (std::size_t next = 0; next < units.size(); ++step) {
    std::vector<std::int64_t> samples;
    while (next < units.size() &&
           (samples.empty() || samples.size() + units[next].size() <= kBatch)) {
      samples.insert(samples.end(), units[next].begin(), units[next].end());
      ++next;
    }
    const Batch batch = gather(data.dataset, data.fields, samples);
    body(batch, unit_input(model.config(), data.dataset, batch).to(model.device()),
         RandomStreams{.seed = seed, .step = step});
  }
}

void append(std::vector<double>& target, const Variable& source) {
  if (!source.defined()) return;
  const auto values = source.value().to_vector();
  target.insert(target.end(), values.begin(), values.end());
}

}  // namespace

Predictions predict(const Model& model, const PreparedData& data,
                    std::span<const std::int64_t> indices) {
  NoGradScope no_grad;
  Predictions result;
  for_each_batch(
      model, data, indices,
      [&](const Batch& batch, const ModelInput& input, RandomStreams streams) {
        const ForwardOutput output = model.forward(input, Mode::inference, streams);
        result.indices.insert(result.indices.end(), batch.indices.begin(), batch.indices.end());
        append(result.values, output.prediction);
        if (!input.labels.defined()) return;
        const auto labels = input.labels.to_vector();
        result.labels.insert(result.labels.end(), labels.begin(), labels.end());
        result.loss += output.losses.prediction.value().item() * static_cast<double>(batch.size());
      });
  if (!indices.empty()) result.loss /= static_cast<double>(indices.size());
  const auto bad = std::ranges::find_if(result.values, [](double x) { return !std::isfinite(x); });
  if (bad != result.values.end()) {
    const auto outputs = result.values.size() / indices.size();
    const auto sample = result.indices[(bad - result.values.begin()) / outputs];
    fail(ErrorKind::numeric, "predict",
         "sample '{}' has the prediction {}: look for non-finite parameters with "
         "`cmir inspect`",
         data.dataset.ids[sample], *bad);
  }
  return result;
}

MetricValues metrics_of(const Predictions& predictions, MetricFamily family) {
  return compute_metrics(family, predictions.values, predictions.labels);
}

std::vector<SampleRepresentations> represent(const Model& model, const PreparedData& data,
                                             std::span<const std::int64_t> indices,
                                             int environment) {
  NoGradScope no_grad;
  std::vector<SampleRepresentations> result;
  for_each_batch(model, data, indices,
                 [&](const Batch&, const ModelInput& input, RandomStreams streams) {
                   const auto parts = model.representations(input, streams, environment);
                   result.resize(parts.size());
                   for (std::size_t m = 0; m < parts.size(); ++m) {
                     result[m].modality = parts[m].modality;
                     result[m].width = parts[m].unimodal.shape().width();
                     append(result[m].unimodal, parts[m].unimodal);
                     append(result[m].invariant, parts[m].invariant);
                     append(result[m].spurious, parts[m].spurious);
                   }
                 });
  return result;
}

}  // namespace cmir
