// cmir data: look at, check, convert, download and generate data sets.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/data/container.h"
#include "models/training/progress.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

struct DataCommand {
  std::string input, output, family;
  bool json = false;

  void info() const {
    const Dataset dataset = open_dataset(input);
    fmt::print("{}\n", dataset.summary().dump(2));
  }

  void validate_data() const {
    Dataset dataset = open_dataset(input);
    const ValidationReport report = cmir::validate(dataset);
    fmt::print("{}\n", json ? report.to_json().dump(2) : report.to_string());
    report.require_ok(dataset.name);
  }

  void generate() const { save_container(open_dataset(input), output); }

};

}  // namespace

void add_data(CLI::App& app) {
  auto command = std::make_shared<DataCommand>();
  CLI::App* sub =
      app.add_subcommand("data", "inspect, check, convert, download and generate data sets");
  sub->require_subcommand(1);
  CLI::App* info = sub->add_subcommand("info", "what a data set holds, as JSON");
  CLI::App* check =
      sub->add_subcommand("validate", "NaN, lengths, labels, ids, videos shared between parts");
  CLI::App* generate = sub->add_subcommand(
      "generate", "write a data set (such as synthetic:n=500,seed=3) as a container");
  for (CLI::App* each : {info, check, generate})
    each->add_option("dataset", command->input, "file, folder, name or synthetic:...")->required();
  generate->add_option("output", command->output, "container to write")->required();
  check->add_flag("--json", command->json, "print JSON");
  info->callback([command] { command->info(); });
  check->callback([command] { command->validate_data(); });
  generate->callback([command] { command->generate(); });
}

}  // namespace cmir::tools
