// R_dec and R_inv in the forms that the paper leaves out, beside its own.
#include "core/error.h"
#include "models/experiments/study_parts.h"

namespace cmir {
namespace {

constexpr double kNoiseRate = 0.3;
constexpr double kFactors[] = {1, 10, 100};

/// CmIR, then each other form with its weight taken 1, 10 and 100 times: nats, risks and distances
/// have other sizes than the paper's terms.
std::vector<Variant> variants_of(const Config& config) {
  const Config full = with_framework(config, "cmir");
  std::vector<Variant> variants{
      {fmt::format("CmIR ({}, {})", full.loss.decorrelation, full.loss.invariance), full}};
  const auto add = [&](const char* term, const std::vector<const char*>& forms,
                       std::string LossConfig::*form, double LossConfig::*weight) {
    for (const char* name : forms) {
      for (const double factor : kFactors) {
        Config changed = full;
        changed.loss.*form = name;
        changed.loss.*weight *= factor;
        variants.push_back(
            {fmt::format("{} {}, weight {:g}", term, name, changed.loss.*weight), changed});
      }
    }
  };
  add("R_dec", {"club", "infonce"}, &LossConfig::decorrelation, &LossConfig::lambda_decorrelation);
  add("R_inv", {"irmv1", "vrex"}, &LossConfig::invariance, &LossConfig::lambda_invariance);
  return variants;
}

}  // namespace

StudyReport forms_study(const Config& config, const Dataset& dataset, const StudyOptions& options) {
  require_probed_environments(config);
  require(config.loss.lambda_decorrelation > 0 && config.loss.lambda_invariance > 0, "experiment",
          "compares forms at 1, 10 and 100 times the weights of the configuration, which must be "
          "above 0: loss.lambda_decorrelation = {}, loss.lambda_invariance = {}",
          config.loss.lambda_decorrelation, config.loss.lambda_invariance);
  const std::string metric = headline_metric(config);
  auto conditions = plain_conditions(prepare_data(config, dataset).split);
  NoiseConfig noise = config.noise;
  noise.test_kind = "gaussian";
  noise.test_rate = kNoiseRate;
  conditions.push_back({.name = fmt::format("noise {:g}", kNoiseRate), .noise = noise});
  const Rows rows = run_variants(variants_of(config), conditions, dataset, options,
                                 {.analyse = probe_representations});

  std::vector<Column> columns{{"model"}};
  for (const Condition& condition : conditions)
    columns.push_back({metric + " " + condition.name, Best::highest, 1});
  for (const char* name : {"Z_inv environment MSE", "chance MSE"})
    columns.push_back({name, Best::none, 3});
  columns.push_back({"wall ms/step", Best::none, 2});
  StudyReport report{.title = fmt::format("{}: forms of R_dec and R_inv", config.data.name),
                     .table = Table(columns)};
  for (const auto& [name, results] : rows) {
    std::vector<Cell> cells{name};
    for (const Condition& condition : conditions)
      cells.push_back(cell_of(over_seeds(results, condition.name, metric)));
    for (const char* probe : {"Z_inv environment MSE", "Z_inv chance MSE"})
      cells.push_back(cell_of(extra_over_seeds(results, probe)));
    cells.push_back(step_time(results));
    report.table.add_row(std::move(cells));
  }
  report.json = {{"rows", to_json(report.table)}, {"seeds", seeds_json(rows)}};
  BarChart chart = bars_of(config, report.title, conditions, rows);
  chart.from_zero = false;
  report.picture = svg(chart);
  return report;
}

}  // namespace cmir
