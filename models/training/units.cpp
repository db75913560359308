#include "models/training/units.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "models/networks/batch_input.h"

namespace cmir {
namespace {

std::span<const std::int32_t> groups_of(const Dataset& dataset) {
  require(dataset.group.defined(), "data",
          "data.context = \"group\" needs groups (videos), which '{}' does not name", dataset.name);
  return dataset.group.span<std::int32_t>();
}

}  // namespace

Units batch_units(const Config& config, const Dataset& dataset,
                  std::span<const std::int64_t> indices) {
  Units units;
  if (config.data.context != "group") {
    for (const std::int64_t i : indices) units.push_back({i});
    return units;
  }
  const auto group = groups_of(dataset);
  std::map<std::int32_t, std::vector<std::int64_t>> by_group;
  for (const std::int64_t i : indices) by_group[group[i]].push_back(i);
  for (auto& [number, samples] : by_group) {
    std::ranges::sort(samples);
    units.push_back(std::move(samples));
  }
  return units;
}

std::vector<std::int64_t> samples_of(const Units& units, std::span<const std::int64_t> chosen) {
  std::vector<std::int64_t> samples;
  for (const std::int64_t unit : chosen)
    samples.insert(samples.end(), units[unit].begin(), units[unit].end());
  return samples;
}

ModelInput unit_input(const Config& config, const Dataset& dataset, const Batch& batch) {
  ModelInput input = model_input(config, batch);
  if (config.data.context != "group") return input;
  const auto group = groups_of(dataset);
  std::vector<std::int64_t> bounds{0};
  for (std::int64_t i = 1; i <= batch.size(); ++i) {
    const bool ends = i == batch.size() || group[batch.indices[i]] != group[batch.indices[i - 1]];
    if (ends) bounds.push_back(i);
  }
  input.groups = Tensor::from(bounds, {static_cast<std::int64_t>(bounds.size())});
  return input;
}

}  // namespace cmir
