#include "models/training/shape_bucket.h"

#include <algorithm>
#include <bit>

#include "core/error.h"

namespace cmir {
namespace {

/// Between the `sizes` of the power of two that `size` is in.
std::int64_t step_of(std::int64_t size, std::int64_t sizes) {
  const auto power = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(size)));
  return std::max<std::int64_t>(power / sizes, 1);
}
std::int64_t rounded_up(std::int64_t size, std::int64_t sizes) {
  const std::int64_t step = step_of(size, sizes);
  return (size + step - 1) / step * step;
}

std::int64_t longest_of(std::span<const std::int64_t> offsets) {
  std::int64_t longest = 0;
  for (std::size_t s = 1; s < offsets.size(); ++s)
    longest = std::max(longest, offsets[s] - offsets[s - 1]);
  return longest;
}

bool is_category(const ModalityInput& input) {
  return !is_floating(input.values.dtype()) && !input.offsets.defined();
}

std::vector<std::int64_t> sizes_of(const Tensor& tensor) {
  std::vector<std::int64_t> sizes;
  for (int i = 0; i < tensor.rank(); ++i) sizes.push_back(tensor.size(i));
  return sizes;
}

Tensor zeros_like(const Tensor& tensor, DType dtype, std::int64_t rows, Device device) {
  return Tensor::zeros(tensor.shape().with_leading(rows), dtype, device);
}

void write(Tensor& to, const std::vector<std::int64_t>& values) {
  std::ranges::copy(values, to.mutable_span<std::int64_t>().begin());
}

}  // namespace

LongestSequences longest_sequences(const Config& config, const Dataset& dataset,
                                   const std::vector<std::int64_t>& samples) {
  LongestSequences longest;
  const std::int64_t limit = config.data.max_length;
  for (const ModalityConfig& modality : config.data.modalities) {
    const auto tokens = dataset.tokens.find(modality.feature);
    const Tensor& offsets = tokens != dataset.tokens.end()
                                ? tokens->second.offsets
                                : dataset.feature(modality.feature).offsets;
    if (!offsets.defined()) continue;
    const auto at = offsets.span<std::int64_t>();
    std::int64_t most = 0;
    for (const std::int64_t s : samples) most = std::max(most, at[s + 1] - at[s]);
    longest[modality.name] = limit > 0 ? std::min(most, limit) : most;
  }
  return longest;
}

SequenceBucket SequenceBucket::of(const Tensor& offsets, std::int64_t limit, std::int64_t sizes) {
  const auto at = offsets.span<std::int64_t>();
  SequenceBucket bucket{.samples = offsets.numel() - 1};
  const std::int64_t longest = std::max<std::int64_t>(longest_of(at), 1);
  bucket.longest = std::max(longest, std::min(rounded_up(longest, sizes), limit));
  const std::int64_t least = at.back() + bucket.longest;  // with the first sample of padding
  bucket.rows = rounded_up(least, sizes);
  // So that the number depends on the bucket's rows only: what rounding up can add at most.
  bucket.padding = 1 + (step_of(bucket.rows, sizes) + bucket.longest - 1) / bucket.longest;
  return bucket;
}

std::vector<std::int64_t> SequenceBucket::padded(const Tensor& offsets) const {
  const auto at = offsets.span<std::int64_t>();
  std::vector<std::int64_t> result(at.begin(), at.end());
  result.push_back(result.back() + longest);
  while (static_cast<std::int64_t>(result.size()) < samples + padding + 1)
    result.push_back(std::min(result.back() + longest, rows));
  require(result.back() == rows && result.size() == static_cast<std::size_t>(samples + padding + 1),
          "bucket", "{} rows do not fit {} rows with {} samples of padding", at.back(), rows,
          padding);
  return result;
}

ShapeBucket ShapeBucket::of(const ModelInput& input, const LongestSequences& longest) {
  ShapeBucket bucket;
  const auto ragged = std::ranges::count_if(
      input.modalities, [](const auto& m) { return m.second.offsets.defined(); });
  for (const auto& [name, modality] : input.modalities) {
    if (modality.offsets.defined()) {
      const auto limit = longest.find(name);
      bucket.sequences[name] = SequenceBucket::of(
          modality.offsets, limit == longest.end() ? 0 : limit->second, ragged > 1 ? 2 : 4);
    } else {
      bucket.vectors[name] = sizes_of(modality.values);
    }
  }
  // One number of samples for all, so that modalities can attend to each other.
  std::int64_t padding = 0;
  for (const auto& [name, sequences] : bucket.sequences)
    padding = std::max(padding, sequences.padding);
  for (auto& [name, sequences] : bucket.sequences) sequences.padding = padding;
  if (input.labels.defined()) bucket.labels = sizes_of(input.labels);
  if (input.groups.defined()) {  // not padded
    const auto at = input.groups.span<std::int64_t>();
    bucket.groups = {
        .samples = input.groups.numel() - 1, .rows = at.back(), .longest = longest_of(at)};
  }
  if (input.environments.offsets.defined()) bucket.environments = input.environments.count();
  return bucket;
}

PaddedInput::PaddedInput(const ModelInput& input, const ShapeBucket& bucket, DType dtype,
                         Device device)
    : bucket_(bucket), device_(device) {
  const auto dtype_for = [&](const Tensor& t) {
    return is_floating(t.dtype()) ? dtype : t.dtype();
  };
  const auto device_for = [&](const Tensor& t) {
    return is_floating(t.dtype()) ? device : Device{};
  };
  for (const auto& [name, modality] : input.modalities) {
    const Tensor& values = modality.values;
    ModalityInput& mine = input_.modalities[name];
    const auto sequences = bucket.sequences.find(name);
    const std::int64_t rows =
        sequences == bucket.sequences.end() ? values.size(0) : sequences->second.rows;
    mine.values = zeros_like(values, dtype_for(values), rows, device_for(values));
    if (sequences != bucket.sequences.end()) {
      mine.padding = sequences->second.padding;
      mine.offsets = Tensor::zeros({sequences->second.samples + mine.padding + 1}, DType::i64);
    } else if (is_category(modality)) {
      mine.offsets = Tensor::zeros({rows + 1}, DType::i64);
      std::vector<std::int64_t> one_each(rows + 1);
      for (std::int64_t s = 0; s <= rows; ++s) one_each[s] = s;
      write(mine.offsets, one_each);
    }
  }
  if (input.groups.defined()) input_.groups = Tensor::zeros(input.groups.shape(), DType::i64);
  if (input.labels.defined())
    input_.labels = Tensor::zeros(input.labels.shape(), dtype_for(input.labels));
  if (input.environments.offsets.defined()) {
    const Tensor &offsets = input.environments.offsets, &order = input.environments.order;
    input_.environments = {Tensor::zeros(offsets.shape(), offsets.dtype()),
                           Tensor::zeros(order.shape(), order.dtype())};
  }
  if (input.invariance_factor.defined()) input_.invariance_factor = Tensor::zeros({}, dtype);
}

void PaddedInput::fill(const ModelInput& input) {
  for (auto& [name, mine] : input_.modalities) {
    const ModalityInput& modality = input.modalities.at(name);
    const Tensor& values = modality.values;
    mine.values.slice(0, values.size(0)).copy_from(values.to(mine.values.dtype()));
    const auto sequences = bucket_.sequences.find(name);
    if (sequences != bucket_.sequences.end())
      write(mine.offsets, sequences->second.padded(modality.offsets));
  }
  if (input.groups.defined()) input_.groups.copy_from(input.groups);
  if (input.labels.defined()) input_.labels.copy_from(input.labels.to(input_.labels.dtype()));
  if (input.environments.offsets.defined()) {
    input_.environments.offsets.copy_from(input.environments.offsets);
    input_.environments.order.copy_from(input.environments.order);
  }
  if (input.invariance_factor.defined())
    input_.invariance_factor.copy_from(
        input.invariance_factor.to(input_.invariance_factor.dtype()));
  (void)input_.to(device_);  // brings the device's copies of what stays on the host up to date
}

}  // namespace cmir
