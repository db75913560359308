// cmir eval and cmir predict: what trained models say.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "core/error.h"
#include "core/formats/file.h"
#include "models/evaluation/report.h"
#include "models/evaluation/statistics.h"
#include "models/training/evaluate.h"
#include "models/training/model_file.h"
#include "tools/command.h"

namespace cmir::tools {
namespace {

/// `path` itself when it is a model file; else every model.safetensors below the directory, sorted.
std::vector<std::filesystem::path> find_models(const std::filesystem::path& path) {
  std::vector<std::filesystem::path> models;
  if (std::filesystem::is_regular_file(path)) models.push_back(path);
  if (std::filesystem::is_directory(path)) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
      if (entry.path().filename() == "model.safetensors") models.push_back(entry.path());
    }
  }
  std::ranges::sort(models);
  if (models.empty()) {
    fail(ErrorKind::io, "models",
         "{} is no model and has none below it; train one with `cmir train`", path.string());
  }
  return models;
}

struct EvalCommand {
  std::string path, data, part = "test", noise = "none", device;
  double rate = 0;
  int threads = 0;
  bool json = false;

  void run() const {
    set_threads(threads);
    Table table(std::vector<Column>{{"model"}});
    Json report = Json::array();
    bool first = true;
    for (const auto& file : find_models(path)) {
      LoadedModel loaded = load_model(file, usable_device(device));
      Config config = loaded.description.config;
      if (!data.empty()) config.data.path = data;
      apply_override(config, fmt::format("noise.test_kind={}", noise));
      config.noise.test_rate = rate;
      validate(config);
      loaded.model.set_noise(config.noise);
      const PreparedData prepared =
          prepare_data(config, open_configured(config), {.standardiser = &loaded.standardiser});
      require_modalities(loaded.description, prepared.modalities, prepared.dataset.name);
      const Predictions predictions =
          cmir::predict(loaded.model, prepared, prepared.split.part(part));
      const MetricValues metrics = metrics_of(predictions, prepared.metric);
      if (first) {
        std::vector<Column> columns{{"model"}};
        for (const MetricValue& m : metrics)
          columns.push_back({m.name, Best::none, m.name == "MAE" || m.name == "Corr" ? 3 : 1});
        table = Table(columns);
        first = false;
      }
      std::vector<Cell> cells{file.string()};
      for (const MetricValue& m : metrics) cells.emplace_back(m.value);
      table.add_row(cells);
      report.push_back({{"model", file.string()},
                        {"part", part},
                        {"loss", predictions.loss},
                        {"metrics", to_json(metrics)}});
    }
    fmt::print("{}\n", json ? report.dump(2) : table.plain());
  }
};

struct PredictCommand {
  std::string path, data, part = "all", out, device;
  int threads = 0;

  void run() const {
    set_threads(threads);
    const LoadedModel loaded = load_model(find_models(path).front(), usable_device(device));
    Config config = loaded.description.config;
    if (!data.empty()) config.data.path = data;
    const PreparedData prepared = prepare_data(
        config, open_configured(config), {.standardiser = &loaded.standardiser, .inference = true});
    require_modalities(loaded.description, prepared.modalities, prepared.dataset.name);
    std::vector<std::int64_t> indices(prepared.dataset.size());
    for (std::size_t i = 0; i < indices.size(); ++i) indices[i] = static_cast<std::int64_t>(i);
    if (part != "all") indices = prepared.split.part(part);
    const Predictions predictions = cmir::predict(loaded.model, prepared, indices);
    std::string text;
    const std::size_t outputs = indices.empty() ? 1 : predictions.values.size() / indices.size();
    for (std::size_t i = 0; i < indices.size(); ++i) {
      text += prepared.dataset.ids[indices[i]];
      for (std::size_t k = 0; k < outputs; ++k)
        text += fmt::format("\t{:.6g}", predictions.values[i * outputs + k]);
      text += '\n';
    }
    if (out.empty()) {
      fmt::print("{}", text);
    } else {
      write_file_atomically(out, text);
    }
  }
};

}  // namespace

void add_eval(CLI::App& app) {
  auto command = std::make_shared<EvalCommand>();
  CLI::App* sub = app.add_subcommand("eval", "metrics of trained models");
  sub->add_option("model", command->path, "a model.safetensors, or a directory with some below it")
      ->required();
  sub->add_option("--data", command->data, "another data set with the same features");
  sub->add_option("--part", command->part, "train, valid, test or test_ood")->capture_default_str();
  sub->add_option("--noise", command->noise,
                  "none, gaussian, laplace, erase or laplace_or_erase: corruption of the unimodal "
                  "representations")
      ->capture_default_str();
  sub->add_option("--rate", command->rate, "noise rate, 0 to 1")->check(CLI::Range(0.0, 1.0));
  add_threads(*sub, command->threads);
  add_device_option(*sub, command->device);
  sub->add_flag("--json", command->json, "print JSON");
  sub->footer("example: cmir eval runs/mosi_utt_b --noise gaussian --rate 0.3");
  sub->callback([command] { command->run(); });
}

void add_predict(CLI::App& app) {
  auto command = std::make_shared<PredictCommand>();
  CLI::App* sub = app.add_subcommand(
      "predict", "one line per sample: id, tab, prediction (logits for classes)");
  sub->add_option("model", command->path, "a model.safetensors, or a directory (its first model)")
      ->required();
  sub->add_option("--data", command->data,
                  "data set with the model's features; labels are not needed");
  sub->add_option("--part", command->part, "all, or a part of the configuration's split")
      ->capture_default_str();
  sub->add_option("--out", command->out, "file to write instead of standard output");
  add_threads(*sub, command->threads);
  add_device_option(*sub, command->device);
  sub->callback([command] { command->run(); });
}

}  // namespace cmir::tools
