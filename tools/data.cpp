// cmir data: look at, check, convert, download and generate data sets.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "models/data/container.h"
#include "models/data/import/convert.h"
#include "models/data/mosi.h"
#include "models/training/progress.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

struct DataCommand {
  std::string input, output, family, folds;
  bool all_columns = false;
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

  void convert() const {
    ConvertOptions options;
    options.family = family;
    options.folds = folds;
    options.all_columns = all_columns;
    fmt::print("{}\n", convert_dataset(input, output, options).to_string());
  }

  void get() const {
    require(input == "mosi", "data get",
            "knows only 'mosi', not '{}'; convert files you have with `cmir data convert`", input);
    const std::filesystem::path directory = output.empty() ? "data/mosi" : output;
    std::filesystem::create_directories(directory / "raw");
    MosiDownloadOptions options;
    std::string current;
    std::unique_ptr<Progress> bar;
    options.progress = [&](const std::string& file, std::size_t received, std::size_t total) {
      if (file != current || (!bar && total > 0)) {
        current = file;
        bar = std::make_unique<Progress>(file, "byte", static_cast<std::int64_t>(total));
      }
      if (bar) bar->update(static_cast<std::int64_t>(received), "");
    };
    download_mosi(directory / "raw", options);
    bar.reset();
    const auto file = directory / "mosi_utt.safetensors";
    save_container(convert_mosi(directory / "raw"), file);
    fmt::print("{}\n", file.string());
  }
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
  CLI::App* convert = sub->add_subcommand(
      "convert",
      "files of MMSA, MulT, MISA, MAG-BERT, HFFN, HKT, UR-FUNNY, CMU-SDK into a container");
  CLI::App* get = sub->add_subcommand("get", "download a public data set and convert it: mosi");
  for (CLI::App* each : {info, check, generate})
    each->add_option("dataset", command->input, "file, folder, name or synthetic:...")->required();
  generate->add_option("output", command->output, "container to write")->required();
  check->add_flag("--json", command->json, "print JSON");
  convert->add_option("input", command->input, "file or folder")->required();
  convert->add_option("output", command->output, "container to write")->required();
  convert->add_option("--family", command->family,
                      "kind of file (default: recognised by its content)");
  convert->add_option("--folds", command->folds, "CMU-SDK: JSON file with the videos of each part");
  convert->add_flag("--all-columns", command->all_columns,
                    "HKT, UR-FUNNY: keep all audio and video columns");
  get->add_option("name", command->input, "mosi")->required();
  get->add_option("directory", command->output, "where to put it (default data/mosi)");
  info->callback([command] { command->info(); });
  check->callback([command] { command->validate_data(); });
  generate->callback([command] { command->generate(); });
  convert->callback([command] { command->convert(); });
  get->callback([command] { command->get(); });
}

}  // namespace cmir::tools
