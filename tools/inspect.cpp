// cmir inspect: configurations, parameters, kernels.
#include <fmt/format.h>

#include "core/error.h"
#include "kernels/kernel.h"
#include "models/evaluation/report.h"
#include "models/training/model_file.h"
#include "models/training/prepare.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

struct InspectCommand {
  ConfigOptions common;
  bool configs = false, keys = false, kernels = false, json = false;

  void run() const {
    if (configs) {
      for (const std::string& name : shipped_configs()) fmt::print("{}\n", name);
    } else if (keys) {
      fmt::print("{}\n", config_help());
    } else if (kernels) {
      print_kernels();
    } else {
      require(!common.config.empty(), "inspect",
              "needs a configuration or a model file, or --configs, --keys, --kernels");
      print_model();
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
      "parameters of a configuration's model or of a model file; configurations, keys, kernels");
  command->common.add_to(*sub);
  sub->get_option("config")->required(false);
  sub->add_flag("--configs", command->configs, "list the shipped configurations");
  sub->add_flag("--keys", command->keys,
                "every key of a configuration: default, allowed values, meaning");
  sub->add_flag("--kernels", command->kernels, "every kernel and its instruction sets");
  sub->add_flag("--json", command->json, "parameter names and shapes as JSON");
  sub->callback([command] { command->run(); });
}

}  // namespace cmir::tools
