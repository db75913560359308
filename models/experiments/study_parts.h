// What the studies share: running variants of a configuration over its seeds, and turning results
// into rows.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/evaluation/metrics.h"
#include "models/evaluation/plot.h"
#include "models/experiments/study.h"
#include "models/experiments/trial.h"
#include "models/training/evaluate.h"

namespace cmir {

/// A row of a table: a name and the configuration behind it.
struct Variant {
  std::string name;
  Config config;
};

/// Results of the trials of one name, in the order of seeds.
using Rows = std::vector<std::pair<std::string, std::vector<TrialResult>>>;

/// Every variant with every seed of its configuration, evaluated under all conditions. `run` brings
/// what StudyOptions does not have.
Rows run_variants(const std::vector<Variant>& variants, const std::vector<Condition>& conditions,
                  const Dataset& dataset, const StudyOptions& options, TrialRunOptions run = {});

Config with_framework(Config config, const std::string& framework);

/// One metric of one row, over its seeds.
std::vector<double> over_seeds(const std::vector<TrialResult>& results,
                               const std::string& condition, const std::string& metric);
/// The same of what TrialRunOptions::analyse returned.
std::vector<double> extra_over_seeds(const std::vector<TrialResult>& results,
                                     const std::string& name);
/// Mean and standard deviation.
Cell cell_of(const std::vector<double>& values);

/// Wall milliseconds of a step, of the seeds that were trained and not found done.
Cell step_time(const std::vector<TrialResult>& results);

/// The headline metric of each row under each condition.
BarChart bars_of(const Config& config, const std::string& title,
                 const std::vector<Condition>& conditions, const Rows& rows);

/// Columns for the metrics of a configuration's family, in the paper's order.
std::vector<Column> metric_columns(const Config& config, const std::string& suffix = "");
/// The metric that pictures show: Acc2 or Acc.
std::string headline_metric(const Config& config);

/// All modalities' vectors of one kind side by side: f64 [samples, sum of widths].
Tensor join(const std::vector<SampleRepresentations>& parts,
            std::vector<double> SampleRepresentations::*kind, std::int64_t samples);

/// The results of every single seed.
Json seeds_json(const Rows& rows);

/// What probes read off Z_inv and Z_spu: "Z_inv environment MSE", "Z_inv chance MSE", "Z_inv Acc2",
/// ... For TrialRunOptions::analyse.
Values probe_representations(const Trial& trial, const Model& model, const PreparedData& data);
/// Error (usage) where there is no virtual environment to tell from the sample itself.
void require_probed_environments(const Config& config);

/// The forms of R_dec and R_inv side by side.
StudyReport forms_study(const Config& config, const Dataset& dataset, const StudyOptions& options);

/// Concatenation and cross-modal attention, before and after disentanglement, in both frameworks.
StudyReport fusion_study(const Config& config, const Dataset& dataset, const StudyOptions& options);

/// Table 11: what can be read off Z_inv and Z_spu.
StudyReport probing_study(const Config& config, const Dataset& dataset,
                          const StudyOptions& options);

}  // namespace cmir
