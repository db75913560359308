// The paper's studies on any data set: each is a list of trials and the table, JSON report and
// picture made of their results.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/config.h"
#include "models/data/dataset.h"
#include "models/evaluation/report.h"
#include "models/evaluation/table.h"

namespace cmir {

class Trace;  // core/trace.h

struct StudyOptions {
  std::filesystem::path directory =
      "runs/study";            ///< report.json, table.md, picture.svg and the trials
  std::vector<double> values;  ///< of a sweep or of noise rates; empty: the paper's
  std::string key;             ///< swept key: "loss.environments"
  bool show_progress = true;
  std::int64_t checkpoint_steps = 0;  ///< see TrainOptions
  Trace* trace = nullptr;             ///< see TrainOptions
};

struct StudyReport {
  std::string title;
  Table table;
  Json json;
  std::string picture;  ///< SVG; empty where there is none
};

/// Name and one sentence of each study: table, ablation, reliance, noise, sweep, probing,
/// invariance, forms, fusion, embedding.
struct StudyInfo {
  std::string_view name, summary;
  StudyReport (*run)(const Config&, const Dataset&, const StudyOptions&);
};
const std::vector<StudyInfo>& studies();

/// Writes report.json (title, study, `details`, then the report's own), table.md and picture.svg
/// into the directory, which exists; the report's json is then what was written.
void write_study(StudyReport& report, std::string_view name, const Json& details,
                 const std::filesystem::path& directory);

/// Runs the study `name` (an unknown name is an Error that lists them) with the seeds of
/// config.training.seeds, and writes report.json, table.md and picture.svg into the directory.
StudyReport run_study(std::string_view name, const Config& config, const Dataset& dataset,
                      const StudyOptions& options);

}  // namespace cmir
