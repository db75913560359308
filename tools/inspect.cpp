// cmir inspect: configurations, parameters, kernels, attention maps.
#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"
#include "core/formats/file.h"
#include "core/nearest_name.h"
#include "kernels/kernel.h"
#include "models/evaluation/attention_report.h"
#include "models/evaluation/report.h"
#include "models/training/evaluate.h"
#include "models/training/model_file.h"
#include "models/training/prepare.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

struct InspectCommand {
  ConfigOptions common;
  bool configs = false, keys = false, kernels = false, json = false;
  std::string attention, sample;

  void run() const {
    require(sample.empty() || !attention.empty(), "inspect", "--sample is for --attention alone");
    if (configs) {
      for (const std::string& name : shipped_configs()) fmt::print("{}\n", name);
    } else if (keys) {
      fmt::print("{}\n", config_help());
    } else if (kernels) {
      print_kernels();
    } else {
      require(!common.config.empty(), "inspect",
              "needs a configuration or a model file, or --configs, --keys, --kernels");
      attention.empty() ? print_model() : write_attention();
    }
  }

  static void print_kernels() {
    Table table({{"kernel"}, {"baseline"}, {"avx2"}, {"avx512"}, {"amx"}});
    for (const auto& kernel : kernels::registered_kernels()) {
      std::vector<Cell> cells{kernel.name};
      for (const bool there : kernel.cpu) cells.emplace_back(there ? "yes" : "");
      table.add_row(cells);
    }
    fmt::print("{}active instruction set: {}\n", table.plain(),
               kernels::name_of(kernels::active_isa()));
  }

  void print_model() const {
    if (common.config.ends_with(".safetensors")) {
      const LoadedModel loaded = load_model(common.config);
      print_parameters(loaded.model);
    } else {
      const Config config = common.load();
      const PreparedData data = prepare_data(config, open_configured(config));
      print_parameters(Model(config, data.modalities, 1));
    }
  }

  /// The number of the sample called `sample`; without a name the first.
  std::int64_t sample_of(const Dataset& dataset) const {
    if (sample.empty()) return 0;
    const auto found = std::ranges::find(dataset.ids, sample);
    if (found == dataset.ids.end()) {
      const std::string similar = similar_name(sample, dataset.ids);
      fail(ErrorKind::usage, "inspect", "the data set has no sample '{}'; {}", sample,
           similar.empty() ? fmt::format("its first is '{}'", dataset.ids.at(0))
                           : fmt::format("did you mean '{}'?", similar));
    }
    return found - dataset.ids.begin();
  }

  void write_attention() const {
    const std::string file =
        std::filesystem::is_directory(common.config)
            ? (std::filesystem::path(common.config) / "model.safetensors").string()
            : common.config;
    require(file.ends_with(".safetensors"), "inspect",
            "--attention needs a trained model, .../trials/NAME of what `cmir train` left");
    set_threads(common.threads);
    const LoadedModel loaded = load_model(file, usable_device(common.device));
    Config config = loaded.description.config;
    if (!common.data.empty()) config.data.path = common.data;
    const PreparedData data = prepare_data(
        config, open_configured(config), {.standardiser = &loaded.standardiser, .inference = true});
    require_modalities(loaded.description, data.modalities, data.dataset.name);
    const std::int64_t indices[] = {sample_of(data.dataset)};
    const std::string& id = data.dataset.ids[indices[0]];

    const AttentionMapScope scope;
    const Predictions predictions = cmir::predict(loaded.model, data, indices);
    require(!scope.maps().empty(), "inspect", "no network of {} has attention", common.config);
    std::filesystem::create_directories(attention);
    const std::filesystem::path directory(attention);
    write_json((directory / "attention.json").string(), {{"model", common.config},
                                                         {"sample", id},
                                                         {"prediction", predictions.values},
                                                         {"maps", to_json(scope.maps())}});
    write_file_atomically(directory / "attention.svg",
                          svg(attention_chart(scope.maps(), fmt::format("Attention in {}", id))));
    fmt::print("{} maps of sample {}: attention.json, attention.svg: {}\n", scope.maps().size(), id,
               attention);
  }

  void print_parameters(const Model& model) const {
    Table table({{"parameter"}, {"shape"}, {"elements", Best::none, 0}, {"finite"}});
    std::int64_t total = 0;
    Json report = Json::object();
    for (const Parameter& p : model.named_parameters()) {
      const Tensor& value = p.variable.value();
      bool finite = true;
      for (const double x : value.to_vector()) finite = finite && std::isfinite(x);
      table.add_row({p.name, value.shape().to_string(), Cell(static_cast<double>(value.numel())),
                     finite ? "yes" : "NO"});
      report[p.name] =
          std::vector<std::int64_t>(value.shape().sizes().begin(), value.shape().sizes().end());
      total += value.numel();
    }
    if (json) {
      fmt::print("{}\n", report.dump(2));
      return;
    }
    fmt::print("{}\n", table.plain());
    for (const auto& [part, count] : count_parameters(model.named_parameters(), 2))
      fmt::print("{:<28} {}\n", part, count);
    fmt::print("{:<28} {}\n", "total", total);
  }
};

}  // namespace

void add_inspect(CLI::App& app) {
  auto command = std::make_shared<InspectCommand>();
  CLI::App* sub = app.add_subcommand(
      "inspect",
      "parameters of a configuration's model or of a model file; configurations, keys, kernels, "
      "attention maps");
  command->common.add_to(*sub);
  sub->get_option("config")->required(false);
  sub->add_flag("--configs", command->configs, "list the shipped configurations");
  sub->add_flag("--keys", command->keys,
                "every key of a configuration: default, allowed values, meaning");
  sub->add_flag("--kernels", command->kernels, "every kernel and its instruction sets");
  sub->add_option("--attention", command->attention,
                  "of a model file: where the attention of its networks looks in one sample, as "
                  "attention.json and attention.svg in this directory");
  sub->add_option("--sample", command->sample, "--attention: the sample's id (default: the first)");
  sub->add_flag("--json", command->json, "parameter names and shapes as JSON");
  sub->callback([command] { command->run(); });
}

}  // namespace cmir::tools
