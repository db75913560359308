// The keys of a configuration: name, member, allowed values, meaning. What reads, writes and
// explains configurations walks these tables. Internal to config_*.cpp.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "models/config.h"

namespace cmir::config_keys {

/// The values a key may take: a closed range for numbers (each number of a list), a choice for
/// strings.
struct Allowed {
  double low = -std::numeric_limits<double>::max();
  double high = std::numeric_limits<double>::max();
  std::vector<std::string_view> choices;

  std::string describe() const;
};

template <class Section>
struct Field {
  std::string_view key;
  std::variant<bool Section::*, std::int64_t Section::*, double Section::*, std::string Section::*,
               std::vector<std::int64_t> Section::*>
      member;
  Allowed allowed;
  std::string_view comment;
};
template <class Section>
using Fields = std::vector<Field<Section>>;

/// The table of each section.
const Fields<ModalityConfig>& fields(const ModalityConfig&);
const Fields<DataConfig>& fields(const DataConfig&);
const Fields<ModelConfig>& fields(const ModelConfig&);
const Fields<LossConfig>& fields(const LossConfig&);
const Fields<ParameterGroupConfig>& fields(const ParameterGroupConfig&);
const Fields<OptimizerConfig>& fields(const OptimizerConfig&);
const Fields<TrainingConfig>& fields(const TrainingConfig&);
const Fields<NoiseConfig>& fields(const NoiseConfig&);

/// nullptr where the section has no such key.
template <class Section>
const Field<Section>* find_field(const Section& section, std::string_view key) {
  const auto& table = fields(section);
  const auto found = std::ranges::find(table, key, &Field<Section>::key);
  return found == table.end() ? nullptr : &*found;
}

/// The list of tables below a section, with its key; the section may be const.
template <class Section>
requires std::same_as<std::remove_const_t<Section>, DataConfig>
auto nested(Section& data) { return std::pair(std::string_view("modalities"), &data.modalities); }

template <class Section>
requires std::same_as<std::remove_const_t<Section>, OptimizerConfig>
auto nested(Section& optimizer) { return std::pair(std::string_view("groups"), &optimizer.groups); }

/// f(name, section) for each section of a Config, const or not.
template <class AnyConfig, class F>
void for_each_section(AnyConfig& config, F&& f) {
  f("data", config.data);
  f("model", config.model);
  f("loss", config.loss);
  f("optimizer", config.optimizer);
  f("training", config.training);
  f("noise", config.noise);
}

/// f(name of the list, its tables) if the section has a list of tables.
template <class Section, class F>
void for_nested(Section& section, F&& f) {
  if constexpr (requires { nested(section); }) {
    const auto [name, tables] = nested(section);
    f(name, *tables);
  }
}

}  // namespace cmir::config_keys
