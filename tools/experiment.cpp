// cmir experiment: the paper's studies on any data set.
#include <fmt/ranges.h>

#include "core/error.h"
#include "models/experiments/mi_gaussian.h"
#include "models/experiments/study.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

constexpr const char* kMiGaussian = "mi-gaussian";

struct ExperimentCommand {
  ConfigOptions common;
  std::string name, out, key;
  std::vector<double> values;
  std::vector<std::int64_t> seeds;
  std::int64_t steps = 0;  // 0: the study's own
  bool json = false, quiet = false;

  void run() {
    const StudyReport report = name == kMiGaussian ? gaussian_pairs() : study();
    if (json) {
      fmt::print("{}\n", report.json.dump(2));
    } else {
      fmt::print("{}\n\n{}\nreport.json, table.md, picture.svg: {}\n", report.title,
                 report.table.plain(), out);
    }
  }

  StudyReport gaussian_pairs() {
    require(common.config.empty() && common.overrides.empty() && common.data.empty() && key.empty(),
            "experiment", "{} takes no configuration, --set, --data or --key", kMiGaussian);
    require(seeds.size() <= 1 && (seeds.empty() || seeds[0] >= 0), "experiment",
            "{} takes one seed, not below 0", kMiGaussian);
    set_threads(common.threads);
    if (out.empty()) out = fmt::format("runs/{}", kMiGaussian);
    std::filesystem::create_directories(out);
    MiGaussianOptions options;
    if (steps > 0) options.steps = steps;
    if (!values.empty()) options.nats = values;
    if (!seeds.empty()) options.seed = static_cast<std::uint64_t>(seeds[0]);
    options.device = usable_device(common.device);
    options.show_progress = !quiet;
    StudyReport report = mi_gaussian_study(options);
    write_study(report, kMiGaussian, {{"steps", options.steps}, {"seed", options.seed}}, out);
    return report;
  }

  StudyReport study() {
    require(!common.config.empty(), "experiment",
            "{} needs a configuration: cmir experiment {} CONFIG", name, name);
    require(steps == 0, "experiment", "--steps is for {} alone", kMiGaussian);
    Config config = common.load();
    if (!seeds.empty())
      apply_override(config, fmt::format("training.seeds=[{}]", fmt::join(seeds, ", ")));
    const Dataset dataset = open_configured(config);
    if (out.empty()) out = fmt::format("runs/{}-{}", common.name(), name);
    return run_study(name, config, dataset,
                     {.directory = out, .values = values, .key = key, .show_progress = !quiet});
  }
};

std::string list_of_studies() {
  std::string text = "studies:\n";
  for (const StudyInfo& study : studies())
    text += fmt::format("  {:<11} {}\n", study.name, study.summary);
  text += fmt::format("  {:<11} mutual information where it is known; takes no configuration\n",
                      kMiGaussian);
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
  command->common.add_to(*sub, false);
  sub->add_option("--out", command->out, "output directory (default runs/CONFIG-STUDY)");
  sub->add_option("--key", command->key, "sweep: the key that varies");
  sub->add_option("--values", command->values,
                  "sweep: its values; noise: the rates; mi-gaussian: the levels in nats");
  sub->add_option("--seeds", command->seeds, "seeds instead of training.seeds");
  sub->add_option("--steps", command->steps, "mi-gaussian: batches at each level")
      ->check(CLI::Range(1, 1000000000));
  sub->add_flag("--json", command->json, "print the report as JSON");
  sub->add_flag("--quiet", command->quiet, "no progress");
  sub->footer(list_of_studies());
  sub->callback([command] { command->run(); });
}

}  // namespace cmir::tools
