// cmir train: every seed of a configuration, evaluated, with a table, a report and a picture.
#include <fmt/ranges.h>

#include "core/formats/file.h"
#include "models/experiments/study.h"
#include "models/training/trace_report.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

struct TrainCommand {
  ConfigOptions common;
  std::string out, trace;
  std::vector<std::int64_t> seeds;
  std::int64_t checkpoint_steps = 0, trace_steps = Trace::kSteps;
  bool restart = false, json = false, quiet = false;

  void run() const {
    Config config = common.load();
    if (!seeds.empty())
      apply_override(config, fmt::format("training.seeds=[{}]", fmt::join(seeds, ", ")));
    const Dataset dataset = open_configured(config);
    StudyOptions options;
    options.directory = out.empty() ? fmt::format("runs/{}", common.name()) : out;
    options.show_progress = !quiet;
    options.checkpoint_steps = checkpoint_steps;
    if (!trace.empty()) {
      std::filesystem::create_directories(options.directory);  // the file may lie there
      require_writable(trace);                                 // an error before hours, not after
    }
    if (restart) std::filesystem::remove_all(options.directory / "trials");
    const StudyReport report = trace.empty() ? run_study("train", config, dataset, options)
                                             : run_traced(config, dataset, options);
    if (json) {
      fmt::print("{}\n", report.json.dump(2));
    } else {
      fmt::print("{}\n\n{}\nreport, table, picture and models: {}\n", report.title,
                 report.table.plain(), options.directory.string());
    }
  }

  /// However the run ends, the trace is written and what it shows is printed.
  StudyReport run_traced(const Config& config, const Dataset& dataset, StudyOptions options) const {
    Trace steps(trace_steps);
    options.trace = &steps;
    const auto finish = [&] {
      const TraceSummary summary = summarise(steps);
      if (summary.steps > 0) write_trace(steps, trace);
      if (!json) fmt::print("{}\n", describe(summary));
    };
    try {
      StudyReport report = run_study("train", config, dataset, options);
      finish();
      return report;
    } catch (...) {
      try {
        finish();
      } catch (const std::exception& error) {  // the run's own error is the one to report
        fmt::print(stderr, "{}\n", error.what());
      }
      throw;
    }
  }
};

}  // namespace

void add_train(CLI::App& app) {
  auto command = std::make_shared<TrainCommand>();
  CLI::App* sub = app.add_subcommand(
      "train", "train a model, one run per seed; run again to go on after an interruption");
  command->common.add_to(*sub);
  sub->add_option("--out", command->out, "output directory (default runs/CONFIG)");
  sub->add_option("--seeds", command->seeds, "seeds instead of training.seeds");
  sub->add_option("--checkpoint-steps", command->checkpoint_steps,
                  "checkpoint also every so many steps (always: after each epoch and each minute)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40));
  sub->add_option("--trace", command->trace,
                  "write a timeline of training steps for ui.perfetto.dev or chrome://tracing to "
                  "this file, and print the time by phase and by kernel");
  sub->add_option("--trace-steps", command->trace_steps,
                  fmt::format("steps to trace, after a first one (default {})", Trace::kSteps))
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->needs("--trace");
  sub->add_flag("--restart", command->restart, "forget what the output directory holds");
  sub->add_flag("--json", command->json, "print the report as JSON");
  sub->add_flag("--quiet", command->quiet, "no progress");
  sub->footer(
      "example: cmir train mosi_utt_b --set loss.lambda_invariance=0.5 --seeds 1 2 --out runs/try");
  sub->callback([command] { command->run(); });
}

}  // namespace cmir::tools
