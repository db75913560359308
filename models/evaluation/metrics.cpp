#include "models/evaluation/metrics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <map>
#include <utility>

#include "core/error.h"

namespace cmir {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();
constexpr std::array<std::pair<MetricFamily, std::string_view>, 4> kFamilies{
    {{MetricFamily::sentiment3, "sentiment3"},
     {MetricFamily::sims, "sims"},
     {MetricFamily::binary, "binary"},
     {MetricFamily::multiclass, "multiclass"}}};

using Values = std::span<const double>;
using Classes = std::vector<int>;

template <class F>
Classes classify(Values values, F&& class_of) {
  Classes classes(values.size());
  std::transform(values.begin(), values.end(), classes.begin(), class_of);
  return classes;
}

double accuracy(const Classes& predicted, const Classes& actual) {
  if (actual.empty()) return kUndefined;
  std::size_t right = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) right += predicted[i] == actual[i];
  return 100.0 * static_cast<double>(right) / static_cast<double>(actual.size());
}

enum class Average { weighted, macro };

double f1(const Classes& predicted, const Classes& actual, Average average) {
  if (actual.empty()) return kUndefined;
  struct Counts {
    double hits = 0, predicted = 0, actual = 0;
  };
  std::map<int, Counts> counts;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    counts[actual[i]].actual += 1;
    counts[predicted[i]].predicted += 1;
    if (predicted[i] == actual[i]) counts[actual[i]].hits += 1;
  }
  double sum = 0, weights = 0;
  for (const auto& [label, count] : counts) {
    const double weight = average == Average::weighted ? count.actual : 1.0;
    sum += weight * 2.0 * count.hits / (count.predicted + count.actual);
    weights += weight;
  }
  return 100.0 * sum / weights;
}

double mean_absolute_error(Values predictions, Values labels) {
  if (labels.empty()) return kUndefined;
  double sum = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) sum += std::abs(predictions[i] - labels[i]);
  return sum / static_cast<double>(labels.size());
}

std::vector<double> clipped(Values values, double bound) {
  std::vector<double> result(values.begin(), values.end());
  for (double& value : result) value = std::clamp(value, -bound, bound);
  return result;
}

/// Index of the interval that holds `value`: intervals are open on the left and closed on the
/// right.
int interval_of(double value, std::initializer_list<float> cuts) {
  return static_cast<int>(std::count_if(
      cuts.begin(), cuts.end(), [&](float cut) { return static_cast<float>(value) > cut; }));
}

void append_regression(MetricValues& metrics, Values predictions, Values labels) {
  metrics.values.push_back({"MAE", mean_absolute_error(predictions, labels), false});
  metrics.values.push_back({"Corr", pearson(predictions, labels), true});
}

MetricValues sentiment_metrics(Values predictions, Values labels, const MetricOptions& options) {
  MetricValues metrics;
  for (const int bound : {3, 2}) {
    const auto rounded = [&](double value) {
      return static_cast<int>(std::nearbyint(std::clamp<double>(value, -bound, bound)));
    };
    metrics.values.push_back({bound == 3 ? "Acc7" : "Acc5",
                              accuracy(classify(predictions, rounded), classify(labels, rounded))});
  }
  std::vector<double> polar_predictions, polar_labels;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] == 0) continue;
    polar_predictions.push_back(predictions[i]);
    polar_labels.push_back(labels[i]);
  }
  const auto not_negative = [](double value) { return static_cast<int>(value >= 0); };
  const auto positive = [&](double value) {
    return options.strict_positive ? static_cast<int>(value > 0) : not_negative(value);
  };
  const auto append_binary = [&](const std::string& suffix, const Classes& p, const Classes& a) {
    metrics.values.push_back({"Acc2" + suffix, accuracy(p, a)});
    metrics.values.push_back({"F1" + suffix, f1(p, a, Average::weighted)});
  };
  append_binary("", classify(polar_predictions, positive), classify(polar_labels, positive));
  append_binary("_neutral", classify(predictions, not_negative), classify(labels, not_negative));
  if (options.regression_without_neutral) {
    append_regression(metrics, polar_predictions, polar_labels);
  } else {
    append_regression(metrics, predictions, labels);
  }
  return metrics;
}

MetricValues sims_metrics(Values raw_predictions, Values raw_labels) {
  const std::vector<double> predictions = clipped(raw_predictions, 1),
                            labels = clipped(raw_labels, 1);
  MetricValues metrics;
  const auto append_accuracy = [&](const char* name, std::initializer_list<float> cuts) {
    const auto class_of = [&](double value) { return interval_of(value, cuts); };
    const Classes predicted = classify(predictions, class_of), actual = classify(labels, class_of);
    metrics.values.push_back({name, accuracy(predicted, actual)});
    return f1(predicted, actual, Average::weighted);
  };
  append_accuracy("Acc5", {-0.7F, -0.1F, 0.1F, 0.7F});
  append_accuracy("Acc3", {-0.1F, 0.1F});
  const double weighted_f1 = append_accuracy("Acc2", {0.0F});
  metrics.values.push_back({"F1", weighted_f1});
  append_regression(metrics, predictions, labels);
  return metrics;
}

Classes class_labels(Values labels, std::size_t classes) {
  for (std::size_t i = 0; i < labels.size(); ++i) {
    if (labels[i] < 0 || labels[i] >= static_cast<double>(classes) ||
        labels[i] != std::floor(labels[i])) {
      fail(ErrorKind::data, "compute_metrics",
           "label {} of sample {} is no class: labels must be whole numbers 0..{}", labels[i], i,
           classes - 1);
    }
  }
  return classify(labels, [](double value) { return static_cast<int>(value); });
}

MetricValues binary_metrics(Values predictions, Values labels, const MetricOptions& options) {
  const double threshold = options.probabilities ? 0.5 : 0.0;
  const Classes actual = class_labels(labels, 2);
  const Classes predicted =
      classify(predictions, [&](double value) { return static_cast<int>(value > threshold); });
  return {{{"Acc", accuracy(predicted, actual)}, {"F1", f1(predicted, actual, Average::weighted)}}};
}

MetricValues multiclass_metrics(Values scores, Values labels) {
  const std::size_t classes = scores.size() / labels.size();
  require(
      classes >= 2, "compute_metrics",
      "multiclass needs a score per class, got {} predictions for {} labels; pass [N, C] scores",
      scores.size(), labels.size());
  const Classes actual = class_labels(labels, classes);
  Classes predicted(labels.size());
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto row = scores.subspan(i * classes, classes);
    predicted[i] = static_cast<int>(std::max_element(row.begin(), row.end()) - row.begin());
  }
  return {{{"Acc", accuracy(predicted, actual)},
           {"F1", f1(predicted, actual, Average::weighted)},
           {"F1_macro", f1(predicted, actual, Average::macro)}}};
}

void require_finite_values(Values values, std::string_view what) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      fail(ErrorKind::numeric, "compute_metrics", "{} {} is {}, which has no metric", what, i,
           values[i]);
    }
  }
}

}  // namespace

MetricFamily parse_metric_family(std::string_view name) {
  for (const auto& [family, known] : kFamilies) {
    if (known == name) return family;
  }
  fail(ErrorKind::usage, "metric family",
       "'{}' is unknown; use sentiment3, sims, binary or multiclass", name);
}

std::string_view name_of(MetricFamily family) {
  for (const auto& [known, name] : kFamilies) {
    if (known == family) return name;
  }
  return "?";
}

double MetricValues::at(std::string_view name) const {
  std::string names;
  for (const MetricValue& metric : values) {
    if (metric.name == name) return metric.value;
    names += (names.empty() ? "" : ", ") + metric.name;
  }
  fail(ErrorKind::usage, "metrics", "there is no metric '{}' here; there are: {}", name, names);
}

double pearson(Values a, Values b) {
  require(a.size() == b.size(), "pearson", "{} and {} values cannot be paired", a.size(), b.size());
  const auto n = static_cast<double>(a.size());
  double mean_a = 0, mean_b = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    mean_a += a[i] / n;
    mean_b += b[i] / n;
  }
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  // A constant does not always centre to exact zeros, so constancy is asked directly.
  const auto constant = [](Values v) {
    return std::all_of(v.begin(), v.end(), [&](double value) { return value == v.front(); });
  };
  if (a.empty() || constant(a) || constant(b)) return kUndefined;
  return std::clamp(ab / (std::sqrt(aa) * std::sqrt(bb)), -1.0, 1.0);
}

MetricValues compute_metrics(MetricFamily family, Values predictions, Values labels,
                             const MetricOptions& options) {
  require(!labels.empty(), "compute_metrics", "there are no samples; is the split empty?");
  const bool fits = family == MetricFamily::multiclass ? predictions.size() % labels.size() == 0
                                                       : predictions.size() == labels.size();
  require(fits, "compute_metrics", "{} predictions do not fit {} labels of the family {}",
          predictions.size(), labels.size(), name_of(family));
  require_finite_values(predictions, "prediction");
  require_finite_values(labels, "label");
  switch (family) {
    case MetricFamily::sentiment3:
      return sentiment_metrics(predictions, labels, options);
    case MetricFamily::sims:
      return sims_metrics(predictions, labels);
    case MetricFamily::binary:
      return binary_metrics(predictions, labels, options);
    case MetricFamily::multiclass:
      return multiclass_metrics(predictions, labels);
  }
  fail(ErrorKind::internal, "compute_metrics", "family {} has no metrics",
       static_cast<int>(family));
}

}  // namespace cmir
