#include "models/training/sample_environments.h"

#include <algorithm>
#include <map>
#include <vector>

#include "core/error.h"

namespace cmir {

losses::EnvironmentGroups SampleEnvironments::groups(std::span<const std::int64_t> samples) const {
  const auto all = labels.span<std::int32_t>();
  std::vector<std::int32_t> chosen;
  for (const std::int64_t s : samples) chosen.push_back(all[s]);
  return losses::EnvironmentGroups::by_labels(
      Tensor::from(chosen, {static_cast<std::int64_t>(chosen.size())}), count);
}

SampleEnvironments environments_of_data(const Dataset& dataset, const std::string& name,
                                        std::span<const std::int64_t> train) {
  const Tensor column = dataset.integers(name);
  const auto given = column.span<std::int32_t>();
  for (std::size_t s = 0; s < given.size(); ++s) {
    if (given[s] < 0)
      fail(ErrorKind::data, dataset.name,
           "environment \"{}\" of sample '{}' is {}; environments are integers from 0", name,
           dataset.ids[s], given[s]);
  }
  std::map<std::int32_t, std::int32_t> numbers;
  for (const std::int64_t s : train) numbers[given[s]];
  require(numbers.size() >= 2, dataset.name,
          "the training part has {} environment of \"{}\"; R_inv compares at least 2",
          numbers.size(), name);
  for (std::int32_t next = 0; auto& [value, number] : numbers) number = next++;
  SampleEnvironments environments{Tensor::full({dataset.size()}, -1, DType::i32),
                                  static_cast<std::int64_t>(numbers.size())};
  const auto labels = environments.labels.mutable_span<std::int32_t>();
  for (const std::int64_t s : train) labels[s] = numbers.at(given[s]);
  return environments;
}

}  // namespace cmir
