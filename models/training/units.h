// What batches are made of: single samples, or whole groups of samples that belong together.
#pragma once

#include <span>
#include <vector>

#include "models/config.h"
#include "models/data/batch.h"
#include "models/networks/input.h"

namespace cmir {

/// Samples that stay together in a batch.
using Units = std::vector<std::vector<std::int64_t>>;

/// The samples `indices` cut into units: one each, or, with data.context = "group", those of one
/// group (a video) together, groups and samples in the order of the data set. Error: data.context =
/// "group" on a data set without groups.
Units batch_units(const Config& config, const Dataset& dataset,
                  std::span<const std::int64_t> indices);

/// The samples of the units `chosen`, one unit after the other.
std::vector<std::int64_t> samples_of(const Units& units, std::span<const std::int64_t> chosen);

/// model_input() of a batch made of whole units; names the groups where data.context asks for them.
ModelInput unit_input(const Config& config, const Dataset& dataset, const Batch& batch);

}  // namespace cmir
