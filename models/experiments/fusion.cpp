// How modalities meet: concatenation, as in the paper, beside cross-modal attention.
#include "models/experiments/study_parts.h"
#include "models/networks/crossmodal.h"

namespace cmir {
namespace {

std::vector<Variant> variants_of(const Config& config) {
  std::vector<Variant> variants;
  for (const char* framework : {"vanilla", "cmir"}) {
    const std::string name = framework == std::string("cmir") ? "CmIR" : "vanilla";
    Config changed = with_framework(config, framework);
    changed.model.fusion = "concat";
    variants.push_back({name + ", concat", changed});
    changed.model.fusion = "crossmodal";
    for (const char* place : {"before", "after"}) {
      changed.model.fusion_place = place;
      variants.push_back({fmt::format("{}, crossmodal {}", name, place), changed});
    }
  }
  return variants;
}

}  // namespace

StudyReport fusion_study(const Config& config, const Dataset& dataset,
                         const StudyOptions& options) {
  const PreparedData prepared = prepare_data(config, dataset);
  require_time_steps(prepared.modalities);  // before the first of the trials is trained
  const auto conditions = plain_conditions(prepared.split);
  const Rows rows = run_variants(variants_of(config), conditions, dataset, options);

  std::vector<Column> columns{{"model"}};
  for (const Condition& condition : conditions) {
    for (const Column& column :
         metric_columns(config, conditions.size() > 1 ? " " + condition.name : ""))
      columns.push_back(column);
  }
  columns.push_back({"parameters", Best::none, 0});
  columns.push_back({"wall ms/step", Best::none, 1});
  StudyReport report{.title = fmt::format("{}: how modalities meet", config.data.name),
                     .table = Table(columns)};
  for (const auto& [name, results] : rows) {
    std::vector<Cell> cells{name};
    for (const Condition& condition : conditions) {
      for (const Column& column : metric_columns(config))
        cells.push_back(cell_of(over_seeds(results, condition.name, column.header)));
    }
    cells.emplace_back(static_cast<double>(results.front().parameters));
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
