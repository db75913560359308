// Table 11: a probe reads environment and label off frozen Z_inv and Z_spu.
#include <algorithm>
#include <set>

#include "core/error.h"
#include "models/evaluation/plot.h"
#include "models/evaluation/probe.h"
#include "models/evaluation/statistics.h"
#include "models/experiments/study_parts.h"
#include "models/training/evaluate.h"
#include "models/training/units.h"

namespace cmir {
namespace {

/// Representations in which sample s is seen in environment 1 + s mod K; with K = 1 in environment
/// s mod 2, so that there is something to tell apart.
struct Probed {
  Tensor invariant, spurious;       // [samples, width]
  std::vector<double> environment;  // [samples]
  std::vector<std::int64_t> train, test;
  std::vector<std::int64_t> indices;  // of the data set, parallel to the rows
};

Probed environments_of(const Model& model, const PreparedData& data) {
  Probed probed;
  std::vector<std::int64_t> both = data.split.train;
  both.insert(both.end(), data.split.test.begin(), data.split.test.end());
  const Units units = batch_units(model.config(), data.dataset, both);
  for (const auto& unit : units) {
    probed.indices.insert(probed.indices.end(), unit.begin(), unit.end());
  }
  const std::set<std::int64_t> train(data.split.train.begin(), data.split.train.end());
  const auto samples = static_cast<std::int64_t>(probed.indices.size());
  const std::int64_t count = model.config().loss.environments;
  const std::int64_t first = count == 1 ? 0 : 1;
  const std::int64_t choices = count - first + 1;
  for (std::int64_t s = 0; s < samples; ++s) {
    probed.environment.push_back(static_cast<double>(first + s % choices));
    (train.contains(probed.indices[s]) ? probed.train : probed.test).push_back(s);
  }
  for (std::int64_t e = first; e <= count; ++e) {
    const auto parts = represent(model, data, probed.indices, static_cast<int>(e));
    const Tensor invariant = join(parts, &SampleRepresentations::invariant, samples);
    const Tensor spurious = join(parts, &SampleRepresentations::spurious, samples);
    if (e == first) {
      probed.invariant = invariant.clone();
      probed.spurious = spurious.clone();
      continue;
    }
    for (std::int64_t s = e - first; s < samples; s += choices) {
      probed.invariant.slice(s, s + 1).copy_from(invariant.slice(s, s + 1));
      probed.spurious.slice(s, s + 1).copy_from(spurious.slice(s, s + 1));
    }
  }
  return probed;
}

/// The label's metrics from a probe on clean representations.
Values label_metrics(const Tensor& features, const PreparedData& data, const Probed& probed) {
  const auto all = data.dataset.label(data.fields.label).values.to_vector();
  std::vector<double> labels, test_labels, predictions;
  for (const std::int64_t i : probed.indices) labels.push_back(all[i]);
  for (const std::int64_t s : probed.test) test_labels.push_back(labels[s]);
  const bool classes =
      data.metric == MetricFamily::binary || data.metric == MetricFamily::multiclass;
  if (!classes) {
    predictions = probe_regression(features, labels, probed.train, probed.test).predictions;
  } else {
    const std::vector<std::int64_t> ids(labels.begin(), labels.end());
    predictions = probe_classification(features, ids, probed.train, probed.test).probabilities;
    if (data.metric == MetricFamily::binary) {  // [samples, 2] -> a logit's sign
      for (std::size_t s = 0; s < probed.test.size(); ++s)
        predictions[s] = predictions[2 * s + 1] - 0.5;
      predictions.resize(probed.test.size());
    }
  }
  Values values;
  for (const MetricValue& m : compute_metrics(data.metric, predictions, test_labels))
    values[m.name] = m.value;
  return values;
}

/// The share of a known factor's variance that a linear probe explains on the test samples, the
/// mean over factors and modalities.
double explained(const Tensor& features, const PreparedData& data, const Probed& probed,
                 const std::string& prefix) {
  std::vector<double> shares;
  for (const auto& [name, factor] : data.dataset.extras) {
    if (!name.starts_with(prefix)) continue;
    const std::int64_t width = factor.shape().width();
    const auto values = factor.to_vector();
    for (std::int64_t k = 0; k < width; ++k) {
      std::vector<double> target;
      for (const std::int64_t i : probed.indices) target.push_back(values[i * width + k]);
      const RegressionProbe probe = probe_regression(features, target, probed.train, probed.test);
      shares.push_back(1 - probe.mse / probe.chance_mse);
    }
  }
  return mean(shares);
}

}  // namespace

void require_probed_environments(const Config& config) {
  require(config.loss.environments >= 1, "experiment",
          "probes tell virtual environments apart: set loss.environments to 1 or more, not {}",
          config.loss.environments);
}

Values probe_representations(const Trial&, const Model& model, const PreparedData& data) {
  const Probed probed = environments_of(model, data);
  const auto clean = represent(model, data, probed.indices);
  Values values;
  for (const bool invariant : {true, false}) {
    const std::string z = invariant ? "Z_inv" : "Z_spu";
    const RegressionProbe environment =
        probe_regression(invariant ? probed.invariant : probed.spurious, probed.environment,
                         probed.train, probed.test);
    values[z + " environment MSE"] = environment.mse;
    values[z + " chance MSE"] = environment.chance_mse;
    const Tensor features = join(
        clean, invariant ? &SampleRepresentations::invariant : &SampleRepresentations::spurious,
        static_cast<std::int64_t>(probed.indices.size()));
    for (const auto& [name, value] : label_metrics(features, data, probed))
      values[z + " " + name] = value;
    values[z + " truth.invariant"] = explained(features, data, probed, "truth.invariant.");
    values[z + " truth.spurious"] = explained(features, data, probed, "truth.spurious.");
  }
  return values;
}

StudyReport probing_study(const Config& config, const Dataset& dataset,
                          const StudyOptions& options) {
  require_probed_environments(config);
  const Config full = with_framework(config, "cmir");
  const Rows rows = run_variants({{"CmIR", full}}, {{.name = "test"}}, dataset, options,
                                 {.analyse = probe_representations});
  const auto& results = rows.front().second;
  const bool truth = std::ranges::any_of(
      dataset.extras, [](const auto& e) { return e.first.starts_with("truth."); });
  std::vector<Column> columns{
      {"representation"}, {"environment MSE", Best::none, 3}, {"chance MSE", Best::none, 3}};
  for (const Column& column : metric_columns(config)) columns.push_back(column);
  if (truth) {
    columns.push_back({"invariant factors R2", Best::none, 3});
    columns.push_back({"spurious factors R2", Best::none, 3});
  }
  StudyReport report{.title = fmt::format("{}: probing", config.data.name),
                     .table = Table(columns)};
  BarChart chart{.title = report.title + " (environment MSE; chance: cannot tell)",
                 .y_label = "MSE",
                 .decimals = 3};
  chart.series = {{.name = "probe"}, {.name = "chance"}};
  for (const std::string z : {"Z_inv", "Z_spu"}) {
    std::vector<Cell> cells{z, cell_of(extra_over_seeds(results, z + " environment MSE")),
                            cell_of(extra_over_seeds(results, z + " chance MSE"))};
    for (const Column& column : metric_columns(config))
      cells.push_back(cell_of(extra_over_seeds(results, z + " " + column.header)));
    if (truth) {
      cells.push_back(cell_of(extra_over_seeds(results, z + " truth.invariant")));
      cells.push_back(cell_of(extra_over_seeds(results, z + " truth.spurious")));
    }
    report.table.add_row(std::move(cells));
    chart.groups.push_back(z);
    chart.series[0].values.push_back(mean(extra_over_seeds(results, z + " environment MSE")));
    chart.series[1].values.push_back(mean(extra_over_seeds(results, z + " chance MSE")));
  }
  report.json = {{"rows", to_json(report.table)}, {"seeds", seeds_json(rows)}};
  report.picture = svg(chart);
  return report;
}

}  // namespace cmir
