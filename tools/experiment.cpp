// cmir experiment: the paper's studies on any data set.
#include <fmt/ranges.h>

#include "models/experiments/study.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

struct ExperimentCommand {
  ConfigOptions common;
  std::string name, out, key;
  std::vector<double> values;
  std::vector<std::int64_t> seeds;
  bool json = false, quiet = false;

  void run() const {
    Config config = common.load();
    if (!seeds.empty())
      apply_override(config, fmt::format("training.seeds=[{}]", fmt::join(seeds, ", ")));
    const Dataset dataset = open_configured(config);
    StudyOptions options;
    options.directory = out.empty() ? fmt::format("runs/{}-{}", config.data.name, name) : out;
    options.key = key;
    options.values = values;
    options.show_progress = !quiet;
    const StudyReport report = run_study(name, config, dataset, options);
    if (json) {
      fmt::print("{}\n", report.json.dump(2));
    } else {
      fmt::print("{}\n\n{}\nreport.json, table.md, picture.svg: {}\n", report.title,
                 report.table.plain(), options.directory.string());
    }
  }
};

std::string list_of_studies() {
  std::string text = "studies:\n";
  for (const StudyInfo& study : studies())
    text += fmt::format("  {:<11} {}\n", study.name, study.summary);
  return text +
         "example: cmir experiment sweep mosi_utt_b --key loss.lambda_invariance --values 0.01 0.1 "
         "1";
}

}  // namespace

void add_experiment(CLI::App& app) {
  auto command = std::make_shared<ExperimentCommand>();
  CLI::App* sub = app.add_subcommand(
      "experiment", "the paper's studies; run again to go on after an interruption");
  sub->add_option("study", command->name, "one of the studies below")->required();
  command->common.add_to(*sub);
  sub->add_option("--out", command->out, "output directory (default runs/NAME-STUDY)");
  sub->add_option("--key", command->key, "sweep: the key that varies");
  sub->add_option("--values", command->values, "sweep: its values; noise: the rates");
  sub->add_option("--seeds", command->seeds, "seeds instead of training.seeds");
  sub->add_flag("--json", command->json, "print the report as JSON");
  sub->add_flag("--quiet", command->quiet, "no progress");
  sub->footer(list_of_studies());
  sub->callback([command] { command->run(); });
}

}  // namespace cmir::tools
