#include "models/experiments/study_parts.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "models/evaluation/report.h"
#include "models/evaluation/statistics.h"

namespace cmir {

Rows run_variants(const std::vector<Variant>& variants, const std::vector<Condition>& conditions,
                  const Dataset& dataset, const StudyOptions& options, TrialRunOptions run) {
  std::vector<Trial> trials;
  for (const Variant& variant : variants) {
    validate(variant.config);
    for (const std::int64_t seed : variant.config.training.seeds) {
      trials.push_back(
          {variant.name, variant.config, static_cast<std::uint64_t>(seed), conditions});
    }
  }
  run.directory = options.directory;
  run.show_progress = options.show_progress;
  run.checkpoint_steps = options.checkpoint_steps;
  run.trace = options.trace;
  const auto results = run_trials(trials, dataset, run);
  Rows rows;
  for (std::size_t i = 0; i < trials.size(); ++i) {
    if (rows.empty() || rows.back().first != trials[i].name)
      rows.emplace_back(trials[i].name, std::vector<TrialResult>{});
    rows.back().second.push_back(results[i]);
  }
  return rows;
}

std::vector<double> over_seeds(const std::vector<TrialResult>& results,
                               const std::string& condition, const std::string& metric) {
  std::vector<double> values;
  for (const TrialResult& result : results)
    values.push_back(result.metrics.at(condition).at(metric));
  return values;
}

std::vector<double> extra_over_seeds(const std::vector<TrialResult>& results,
                                     const std::string& name) {
  std::vector<double> values;
  for (const TrialResult& result : results) values.push_back(result.extra.at(name));
  return values;
}

Cell cell_of(const std::vector<double>& values) {
  return Cell(mean(values), standard_deviation(values));
}

Cell step_time(const std::vector<TrialResult>& results) {
  auto times = extra_over_seeds(results, "step milliseconds");
  std::erase_if(times, [](double time) { return std::isnan(time); });
  return cell_of(times);
}

BarChart bars_of(const Config& config, const std::string& title,
                 const std::vector<Condition>& conditions, const Rows& rows) {
  const std::string metric = headline_metric(config);
  BarChart chart;
  chart.title = title;
  chart.y_label = metric + " (%)";
  for (const auto& [name, results] : rows) chart.groups.push_back(name);
  for (const Condition& condition : conditions) {
    BarSeries series{.name = condition.name};
    for (const auto& [name, results] : rows) {
      const auto values = over_seeds(results, condition.name, metric);
      series.values.push_back(mean(values));
      series.errors.push_back(standard_deviation(values));
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

Config with_framework(Config config, const std::string& framework) {
  config.model.framework = framework;
  return config;
}

std::vector<Column> metric_columns(const Config& config, const std::string& suffix) {
  const auto column = [&](const char* name, Best best, int decimals) {
    return Column{name + suffix, best, decimals};
  };
  switch (parse_metric_family(config.data.metric)) {
    case MetricFamily::sentiment3:
      return {column("Acc7", Best::highest, 1), column("Acc2", Best::highest, 1),
              column("F1", Best::highest, 1), column("MAE", Best::lowest, 3),
              column("Corr", Best::highest, 3)};
    case MetricFamily::sims:
      return {column("Acc5", Best::highest, 1), column("Acc3", Best::highest, 1),
              column("Acc2", Best::highest, 1), column("F1", Best::highest, 1),
              column("MAE", Best::lowest, 3),   column("Corr", Best::highest, 3)};
    case MetricFamily::binary:
    case MetricFamily::multiclass:
      return {column("Acc", Best::highest, 1), column("F1", Best::highest, 1)};
  }
  return {};
}

std::string headline_metric(const Config& config) {
  const auto family = parse_metric_family(config.data.metric);
  return family == MetricFamily::binary || family == MetricFamily::multiclass ? "Acc" : "Acc2";
}

Tensor join(const std::vector<SampleRepresentations>& parts,
            std::vector<double> SampleRepresentations::*kind, std::int64_t samples) {
  std::int64_t width = 0;
  for (const auto& part : parts) width += part.width;
  Tensor joined = Tensor::zeros({samples, width}, DType::f64);
  double* values = joined.mutable_span<double>().data();
  std::int64_t column = 0;
  for (const auto& part : parts) {
    require(static_cast<std::int64_t>((part.*kind).size()) == samples * part.width,
            "representations",
            "modality '{}' has no Z_spu; this study needs CmIR with R_dec or R_rec", part.modality);
    for (std::int64_t s = 0; s < samples; ++s) {
      std::copy_n((part.*kind).begin() + s * part.width, part.width, values + s * width + column);
    }
    column += part.width;
  }
  return joined;
}

Json seeds_json(const Rows& rows) {
  Json json = Json::object();
  for (const auto& [name, results] : rows) {
    for (const TrialResult& result : results) {
      json[name].push_back(
          {{"metrics", result.metrics}, {"extra", result.extra}, {"seconds", result.seconds}});
    }
  }
  return json;
}

}  // namespace cmir
