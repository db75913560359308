#include "models/networks/batch_input.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace cmir {
namespace {

/// The first `max_length` rows of every sample.
ModalityInput truncated(const ModalityInput& input, std::int64_t max_length) {
  const auto offsets = input.offsets.span<std::int64_t>();
  const auto samples = static_cast<std::int64_t>(offsets.size()) - 1;
  Tensor kept = Tensor::zeros({samples + 1}, DType::i64);
  const auto kept_offsets = kept.mutable_span<std::int64_t>();
  for (std::int64_t s = 0; s < samples; ++s) {
    kept_offsets[s + 1] = kept_offsets[s] + std::min(offsets[s + 1] - offsets[s], max_length);
  }
  if (kept_offsets[samples] == offsets[samples]) return input;
  Tensor values =
      Tensor::empty(input.values.shape().with_leading(kept_offsets[samples]), input.values.dtype());
  const std::size_t row = input.values.bytes() / static_cast<std::size_t>(input.values.size(0));
  std::byte* out = values.mutable_byte_span().data();
  const std::byte* in = input.values.byte_span().data();
  for (std::int64_t s = 0; s < samples; ++s) {
    std::memcpy(out + kept_offsets[s] * row, in + offsets[s] * row,
                (kept_offsets[s + 1] - kept_offsets[s]) * row);
  }
  return {std::move(values), std::move(kept)};
}

}  // namespace

std::vector<ModalityInfo> describe_modalities(const Config& config, const Dataset& dataset) {
  std::vector<ModalityInfo> all;
  for (const ModalityConfig& modality : config.data.modalities) {
    ModalityInfo info{.name = modality.name};
    if (const auto tokens = dataset.tokens.find(modality.feature); tokens != dataset.tokens.end()) {
      info.kind = InputKind::tokens;
      if (!modality.embedding.empty()) {
        info.embedding = dataset.embedding(modality.embedding);
        info.width = info.embedding.size(0);
      } else {
        info.width = static_cast<std::int64_t>(dataset.vocabulary.size());
      }
    } else {
      const Feature& feature = dataset.feature(modality.feature);
      info.kind = feature.ragged() ? InputKind::sequence : InputKind::vector;
      info.width = feature.width();
    }
    all.push_back(std::move(info));
  }
  return all;
}

BatchFields batch_fields(const Config& config) {
  BatchFields fields{.label = config.data.label};
  for (const ModalityConfig& modality : config.data.modalities) {
    if (std::ranges::find(fields.inputs, modality.feature) == fields.inputs.end())
      fields.inputs.push_back(modality.feature);
  }
  return fields;
}

ModelInput model_input(const Config& config, const Batch& batch) {
  ModelInput input;
  for (const ModalityConfig& modality : config.data.modalities) {
    const auto found = batch.inputs.find(modality.feature);
    require(found != batch.inputs.end(), "model_input",
            "the batch lacks the feature '{}' of modality '{}'", modality.feature, modality.name);
    ModalityInput values{found->second.x, found->second.offsets};
    if (config.data.max_length > 0 && values.offsets.defined())
      values = truncated(values, config.data.max_length);
    input.modalities[modality.name] = std::move(values);
  }
  input.labels = config.loss.prediction == "cross_entropy" ? batch.label_index : batch.label;
  return input;
}

}  // namespace cmir
