#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <unordered_map>

#include "models/data/dataset.h"

namespace cmir {
namespace {

constexpr std::size_t kShown = 5;  // sample ids named in one message

/// "a, b, c and 7 more"
std::string some_ids(const Dataset& dataset, const std::vector<std::int64_t>& samples) {
  std::string text;
  for (std::size_t i = 0; i < std::min(kShown, samples.size()); ++i)
    text += (i > 0 ? ", " : "") + dataset.ids[samples[i]];
  if (samples.size() > kShown) text += fmt::format(" and {} more", samples.size() - kShown);
  return text;
}

void replace_by_zero(Tensor& values) {
  Tensor clean = values.clone();  // the original may be a mapped file
  for (float& value : clean.mutable_span<float>()) {
    if (!std::isfinite(value)) value = 0;
  }
  values = clean;
}

bool is_absent(const Feature& feature, std::int64_t s) {
  if (feature.ragged()) return feature.length(s) == 0;
  const float* row = feature.values.span<float>().data() + s * feature.width();
  return std::all_of(row, row + feature.width(), [](float x) { return x == 0; });
}

std::int64_t count_constant_columns(const Feature& feature) {
  const std::int64_t rows = feature.values.size(0), width = feature.width();
  if (rows < 2) return 0;
  const float* x = feature.values.span<float>().data();
  std::vector<char> varies(static_cast<std::size_t>(width), 0);
  for (std::int64_t r = 1; r < rows; ++r) {
    for (std::int64_t c = 0; c < width; ++c)
      varies[c] |= static_cast<char>(x[r * width + c] != x[c]);
  }
  return std::ranges::count(varies, 0);
}

/// Counts NaN and infinities; reports the samples that have them.
void check_finite(const Dataset& dataset, const std::string& name, const Feature& feature,
                  NonFinite policy, FeatureReport& counts, ValidationReport& report) {
  std::vector<std::int64_t> bad;
  const float* x = feature.values.span<float>().data();
  const std::int64_t width = feature.width();
  for (std::int64_t s = 0; s < dataset.size(); ++s) {
    const std::int64_t begin = feature.ragged() ? feature.offsets.span<std::int64_t>()[s] : s;
    const std::int64_t before = counts.nan + counts.infinite;
    for (std::int64_t i = begin * width; i < (begin + feature.length(s)) * width; ++i) {
      counts.nan += std::isnan(x[i]) ? 1 : 0;
      counts.infinite += std::isinf(x[i]) ? 1 : 0;
    }
    if (counts.nan + counts.infinite > before) bad.push_back(s);
  }
  if (bad.empty()) return;
  const auto text =
      fmt::format("feature {}: {} NaN and {} infinite values, in {} samples ({})", name, counts.nan,
                  counts.infinite, bad.size(), some_ids(dataset, bad));
  if (policy == NonFinite::replace) {
    report.warnings.push_back(text + ": replaced by 0");
  } else {
    report.errors.push_back(text + "; mend the features or have such values replaced by 0");
  }
}

void check_feature(Dataset& dataset, const std::string& name, Feature& feature, NonFinite policy,
                   std::vector<char>& present, ValidationReport& report) {
  FeatureReport& counts = report.features[name];
  check_finite(dataset, name, feature, policy, counts, report);
  if (policy == NonFinite::replace && counts.nan + counts.infinite > 0)
    replace_by_zero(feature.values);
  std::vector<std::int64_t> absent;
  for (std::int64_t s = 0; s < dataset.size(); ++s) {
    if (is_absent(feature, s)) {
      absent.push_back(s);
      continue;
    }
    present[s] = 1;
    const std::int64_t length = feature.length(s);
    counts.shortest = counts.shortest == 0 ? length : std::min(counts.shortest, length);
    counts.longest = std::max(counts.longest, length);
  }
  counts.absent = static_cast<std::int64_t>(absent.size());
  counts.constant_columns = count_constant_columns(feature);
  if (!absent.empty()) {
    report.warnings.push_back(fmt::format("feature {}: {} samples {} ({})", name, absent.size(),
                                          feature.ragged() ? "have no steps" : "are all zero",
                                          some_ids(dataset, absent)));
  }
  if (counts.constant_columns > 0)
    report.warnings.push_back(fmt::format("feature {}: {} of {} columns are constant", name,
                                          counts.constant_columns, feature.width()));
}

void check_labels(const Dataset& dataset, ValidationReport& report) {
  for (const auto& [name, label] : dataset.labels) {
    std::vector<std::int64_t> bad;
    const auto values = label.values.to_vector();
    for (std::size_t s = 0; s < values.size(); ++s) {
      if (!(values[s] >= label.minimum && values[s] <= label.maximum))
        bad.push_back(static_cast<std::int64_t>(s));
    }
    if (!bad.empty()) {
      report.errors.push_back(fmt::format(
          "label {}: {} values outside {}..{}, the first {} ({}); mend them or widen the label's "
          "range",
          name, bad.size(), label.minimum, label.maximum, values[bad[0]], some_ids(dataset, bad)));
    }
  }
}

void check_ids(const Dataset& dataset, ValidationReport& report) {
  std::unordered_map<std::string_view, std::int64_t> first;
  std::vector<std::int64_t> repeated;
  for (std::int64_t s = 0; s < dataset.size(); ++s) {
    if (!first.emplace(dataset.ids[s], s).second) repeated.push_back(s);
  }
  if (!repeated.empty())
    report.errors.push_back(fmt::format("{} ids occur more than once ({})", repeated.size(),
                                        some_ids(dataset, repeated)));
}

/// Groups of which one part holds samples and another part too.
void check_shared_groups(const Dataset& dataset, const std::string& name, const Tensor& part_of,
                         ValidationReport& report) {
  if (!dataset.group.defined()) return;
  std::map<std::int32_t, std::set<std::int32_t>> parts;
  for (std::int64_t s = 0; s < dataset.size(); ++s) {
    const std::int32_t part = part_of.span<std::int32_t>()[s];
    if (part != kNoPart) parts[dataset.group.span<std::int32_t>()[s]].insert(part);
  }
  std::string shown;
  std::size_t shared = 0;
  for (const auto& [group, in] : parts) {
    if (in.size() < 2 || ++shared > kShown) continue;
    const auto index = static_cast<std::size_t>(group);
    shown +=
        (shared > 1 ? ", " : "") +
        (index < dataset.group_names.size() ? dataset.group_names[index] : std::to_string(group));
  }
  if (shared > 0) {
    report.warnings.push_back(fmt::format(
        "split {}: {} of {} groups (videos or speakers) are in more than one part ({}{})", name,
        shared, parts.size(), shown, shared > kShown ? ", ..." : ""));
  }
}

void check_splits(const Dataset& dataset, ValidationReport& report) {
  for (const auto& [name, values] : dataset.splits) {
    const auto parts = values.span<std::int32_t>();
    for (const auto& [part, text] : {std::pair{kTrain, "train"}, std::pair{kTest, "test"}}) {
      if (std::ranges::count(parts, part) == 0)
        report.warnings.push_back(fmt::format("split {}: its part \"{}\" is empty", name, text));
    }
    check_shared_groups(dataset, name, values, report);
  }
  for (const auto& [name, values] : dataset.folds)
    check_shared_groups(dataset, name, values, report);
}

}  // namespace

ValidationReport validate(Dataset& dataset, NonFinite policy) {
  ValidationReport report;
  report.errors = structural_faults(dataset);
  if (!report.ok()) return report;  // the rest relies on the structure
  std::vector<char> present(static_cast<std::size_t>(dataset.size()), 0);
  for (auto& [name, feature] : dataset.features)
    check_feature(dataset, name, feature, policy, present, report);
  for (const auto& [name, tokens] : dataset.tokens) {
    const auto o = tokens.offsets.span<std::int64_t>();
    std::vector<std::int64_t> empty;
    for (std::int64_t s = 0; s < dataset.size(); ++s) {
      if (o[s + 1] > o[s]) {
        present[s] = 1;
      } else {
        empty.push_back(s);
      }
    }
    if (!empty.empty())
      report.warnings.push_back(fmt::format("tokens {}: {} samples have none ({})", name,
                                            empty.size(), some_ids(dataset, empty)));
  }
  std::vector<std::int64_t> nothing;
  for (std::int64_t s = 0; s < dataset.size(); ++s) {
    if (present[s] == 0) nothing.push_back(s);
  }
  if (!nothing.empty())
    report.errors.push_back(fmt::format("{} samples have no modality at all ({}); leave them out",
                                        nothing.size(), some_ids(dataset, nothing)));
  check_labels(dataset, report);
  check_ids(dataset, report);
  check_splits(dataset, report);
  return report;
}

std::string ValidationReport::to_string() const {
  std::string text;
  for (const auto& error : errors) text += "error: " + error + "\n";
  for (const auto& warning : warnings) text += "warning: " + warning + "\n";
  return text.empty() ? "no findings\n" : text;
}

nlohmann::json ValidationReport::to_json() const {
  nlohmann::json json{
      {"errors", errors}, {"warnings", warnings}, {"features", nlohmann::json::object()}};
  for (const auto& [name, f] : features) {
    json["features"][name] = {
        {"nan", f.nan},       {"infinite", f.infinite}, {"constant_columns", f.constant_columns},
        {"absent", f.absent}, {"shortest", f.shortest}, {"longest", f.longest}};
  }
  return json;
}

void ValidationReport::require_ok(std::string_view dataset_name) const {
  if (!ok()) fail(ErrorKind::data, dataset_name, "{}", fmt::join(errors, "; "));
}

}  // namespace cmir
