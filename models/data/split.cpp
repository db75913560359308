// resolve_split: from a column of part numbers to index lists.
#include <algorithm>
#include <set>

#include "models/data/dataset.h"
#include "models/data/permutation.h"

namespace cmir {
namespace {

using Indices = std::vector<std::int64_t>;

std::string known_names(const Dataset& dataset) {
  std::string known;
  for (const auto* map : {&dataset.splits, &dataset.folds}) {
    for (const auto& [name, values] : *map) known += (known.empty() ? "" : ", ") + name;
  }
  return known.empty() ? "none" : known;
}

/// The entry `name`, also spelt with the prefix of the packed form.
const Tensor* find(const std::map<std::string, Tensor>& map, std::string_view name,
                   std::string_view prefix) {
  auto found = map.find(std::string(name));
  if (found == map.end() && name.starts_with(prefix))
    found = map.find(std::string(name.substr(prefix.size())));
  return found == map.end() ? nullptr : &found->second;
}

Split from_parts(const Tensor& values) {
  Split split;
  const auto parts = values.span<std::int32_t>();
  for (std::size_t s = 0; s < parts.size(); ++s) {
    const auto index = static_cast<std::int64_t>(s);
    if (parts[s] == kTrain) split.train.push_back(index);
    if (parts[s] == kValid) split.valid.push_back(index);
    if (parts[s] == kTest) split.test.push_back(index);
    if (parts[s] == kTestOod) split.test_ood.push_back(index);
  }
  return split;
}

Split from_folds(const Tensor& values, std::int32_t test_fold, std::string_view name) {
  const auto folds = values.span<std::int32_t>();
  const std::int32_t count = *std::ranges::max_element(folds) + 1;
  require(test_fold >= 0 && test_fold < count, name, "has folds 0..{}, got test fold {}", count - 1,
          test_fold);
  Split split;
  for (std::size_t s = 0; s < folds.size(); ++s)
    (folds[s] == test_fold ? split.test : split.train).push_back(static_cast<std::int64_t>(s));
  return split;
}

/// Moves whole groups (single samples where there are none), in an order drawn from the seed, from
/// train to valid until it holds at least `fraction` of them.
void cut_validation(const Dataset& dataset, double fraction, std::uint64_t seed, Split& split) {
  const auto group_of = [&](std::int64_t s) {
    return dataset.group.defined() ? std::int64_t{dataset.group.span<std::int32_t>()[s]} : s;
  };
  std::set<std::int64_t> distinct;
  for (const auto s : split.train) distinct.insert(group_of(s));
  const Indices groups(distinct.begin(), distinct.end());
  std::map<std::int64_t, std::int64_t> sizes;
  for (const auto s : split.train) ++sizes[group_of(s)];

  const double wanted = fraction * static_cast<double>(split.train.size());
  std::set<std::int64_t> chosen;
  std::int64_t taken = 0;
  for (const auto position :
       permutation(static_cast<std::int64_t>(groups.size()),
                   {seed, 0, static_cast<std::uint32_t>(DataSite::validation_cut)})) {
    if (static_cast<double>(taken) >= wanted) break;
    chosen.insert(groups[position]);
    taken += sizes[groups[position]];
  }
  Indices rest;
  for (const auto s : split.train) (chosen.contains(group_of(s)) ? split.valid : rest).push_back(s);
  split.train = std::move(rest);
}

}  // namespace

const std::vector<std::int64_t>& Split::part(std::string_view name) const {
  const std::map<std::string_view, const Indices*> parts{
      {"train", &train}, {"valid", &valid}, {"test", &test}, {"test_ood", &test_ood}};
  const auto found = parts.find(name);
  require(found != parts.end(), "split",
          "there is no part \"{}\"; the parts are train, valid, test, test_ood", name);
  if (found->second->empty()) {
    fail(ErrorKind::data, "split", "its part \"{}\" is empty{}", name,
         name == "valid" ? "; choose another split or cut a validation part from train"
                         : "; choose another split");
  }
  return *found->second;
}

Split resolve_split(const Dataset& dataset, std::string_view name, const SplitOptions& options) {
  std::string chosen(name);
  if (chosen.empty() && dataset.splits.size() + dataset.folds.size() == 1)
    chosen = dataset.splits.empty() ? dataset.folds.begin()->first : dataset.splits.begin()->first;
  const Tensor* parts = find(dataset.splits, chosen, "split_");
  const Tensor* folds = find(dataset.folds, chosen, "fold_");
  require(parts != nullptr || folds != nullptr, dataset.name, "{}; it has {}",
          chosen.empty() ? "needs a split to be named"
                         : fmt::format("has no split or fold \"{}\"", chosen),
          known_names(dataset));
  Split split =
      parts != nullptr ? from_parts(*parts) : from_folds(*folds, options.test_fold, chosen);

  require(options.validation_fraction >= 0 && options.validation_fraction < 1, "split",
          "validation_fraction must be in [0, 1), got {}", options.validation_fraction);
  if (options.merge_validation) {
    split.train.insert(split.train.end(), split.valid.begin(), split.valid.end());
    std::ranges::sort(split.train);
    split.valid.clear();
  }
  if (options.validation_fraction > 0) {
    require(split.valid.empty(), "split",
            "\"{}\" has a validation part of {} samples; merge it into train first, or set "
            "validation_fraction = 0",
            chosen, split.valid.size());
    cut_validation(dataset, options.validation_fraction, options.seed, split);
  }
  for (const auto& [part, list] :
       {std::pair{"train", &split.train}, std::pair{"test", &split.test}}) {
    if (list->empty())
      fail(ErrorKind::data, dataset.name, "split \"{}\" leaves its part \"{}\" empty; it has {}",
           chosen, part, known_names(dataset));
  }
  return split;
}

}  // namespace cmir
