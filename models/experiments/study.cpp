#include "models/experiments/study.h"

#include <algorithm>

#include "core/error.h"
#include "core/formats/file.h"
#include "models/evaluation/embedding.h"
#include "models/evaluation/paper_results.h"
#include "models/evaluation/plot.h"
#include "models/evaluation/statistics.h"
#include "models/experiments/study_parts.h"
#include "models/training/evaluate.h"

namespace cmir {
namespace {

/// The published rows for a configuration's data set, or none.
std::vector<PublishedRow> published_for(const std::string& dataset, const std::string& table) {
  return has_published(dataset, table) ? published(dataset, table) : std::vector<PublishedRow>{};
}

/// The published ablation, or the data set's main rows where nobody published one.
std::vector<PublishedRow> ablation_rows(const std::string& dataset) {
  const auto rows = published_for(dataset, "ablation");
  return rows.empty() ? published_for(dataset, "main") : rows;
}

std::vector<Variant> frameworks(const Config& config) {
  return {{"vanilla", with_framework(config, "vanilla")}, {"CmIR", with_framework(config, "cmir")}};
}

/// A table with the metrics of every condition side by side; published rows of the same data set
/// below.
Table result_table(const Config& config, const std::vector<Condition>& conditions, const Rows& rows,
                   const std::vector<PublishedRow>& published_rows) {
  std::vector<Column> columns{{"model"}};
  std::vector<std::pair<std::string, std::string>> keys;  // condition, metric
  for (const Condition& condition : conditions) {
    const std::string suffix = conditions.size() > 1 ? " " + condition.name : "";
    const auto metrics = metric_columns(config, "");
    for (std::size_t i = 0; i < metrics.size(); ++i) {
      columns.push_back(metric_columns(config, suffix)[i]);
      keys.emplace_back(condition.name, metrics[i].header);
    }
  }
  columns.push_back({"parameters", Best::none, 0});
  Table table(columns);
  for (const auto& [name, results] : rows) {
    std::vector<Cell> cells{name};
    for (const auto& [condition, metric] : keys)
      cells.push_back(cell_of(over_seeds(results, condition, metric)));
    cells.emplace_back(static_cast<double>(results.front().parameters));
    table.add_row(std::move(cells));
  }
  if (!published_rows.empty()) table.add_rule();
  for (const PublishedRow& row : published_rows) {
    std::vector<Cell> cells{row.model +
                            (row.computed_here() ? " (computed here)" : " (published)")};
    for (const auto& [condition, metric] : keys) {
      cells.push_back(condition == conditions.front().name ? Cell(row.at_metric(metric)) : Cell());
    }
    cells.emplace_back();
    table.add_row(std::move(cells), true);
  }
  return table;
}

/// The paired t-test of the first metric's seeds between two rows (the paper's appendix J).
Json significance(const Rows& rows, const std::string& a, const std::string& b,
                  const std::string& condition, const std::string& metric) {
  const auto find = [&](const std::string& name) {
    return std::ranges::find(rows, name, &Rows::value_type::first);
  };
  const auto first = find(a), second = find(b);
  if (first == rows.end() || second == rows.end() || first->second.size() < 2) return nullptr;
  const PairedTest test = paired_t_test(over_seeds(first->second, condition, metric),
                                        over_seeds(second->second, condition, metric));
  return {{"pair", {a, b}},
          {"metric", metric},
          {"condition", condition},
          {"difference", test.mean_difference},
          {"p", test.p}};
}

std::vector<Condition> conditions_of(const Config& config, const Dataset& dataset) {
  return plain_conditions(prepare_data(config, dataset).split);
}

StudyReport bar_study(const std::string& title, const Config& config,
                      const std::vector<Condition>& conditions, const Rows& rows,
                      const std::vector<PublishedRow>& published_rows) {
  StudyReport report{.title = title,
                     .table = result_table(config, conditions, rows, published_rows)};
  report.json = {{"rows", to_json(report.table)}, {"seeds", seeds_json(rows)}};
  for (const Condition& condition : conditions) {
    report.json["significance"].push_back(
        significance(rows, "CmIR", "vanilla", condition.name, headline_metric(config)));
  }
  report.picture = svg(bars_of(config, title, conditions, rows));
  return report;
}

/// The configuration's own framework, its models kept.
StudyReport train_only(const Config& config, const Dataset& dataset, const StudyOptions& options) {
  const auto conditions = conditions_of(config, dataset);
  const std::string name = config.model.framework == "cmir" ? "CmIR" : "vanilla";
  const Rows rows =
      run_variants({{name, config}}, conditions, dataset, options, {.keep_models = true});
  return bar_study(fmt::format("{}: {} on {}", config.data.name, name, dataset.name), config,
                   conditions, rows, published_for(config.data.published, "main"));
}

/// Vanilla against CmIR on every test part, beside the published rows.
StudyReport main_table(const Config& config, const Dataset& dataset, const StudyOptions& options) {
  const auto conditions = conditions_of(config, dataset);
  const Rows rows = run_variants(frameworks(config), conditions, dataset, options);
  return bar_study(fmt::format("{}: CmIR against the vanilla framework", config.data.name), config,
                   conditions, rows, published_for(config.data.published, "main"));
}

/// Table 5: vanilla, CmIR without each of its three terms, CmIR.
StudyReport ablation(const Config& config, const Dataset& dataset, const StudyOptions& options) {
  std::vector<Variant> variants{{"vanilla", with_framework(config, "vanilla")}};
  const Config full = with_framework(config, "cmir");
  const auto without = [&](const char* name, bool ModelConfig::*term) {
    Config ablated = full;
    ablated.model.*term = false;
    variants.push_back({name, ablated});
  };
  without("w/o R_inv", &ModelConfig::use_invariance);
  without("w/o R_dec", &ModelConfig::use_decorrelation);
  without("w/o R_rec", &ModelConfig::use_reconstruction);
  variants.push_back({"CmIR", full});
  const auto conditions = conditions_of(config, dataset);
  const Rows rows = run_variants(variants, conditions, dataset, options);
  return bar_study(fmt::format("{}: ablation", config.data.name), config, conditions, rows,
                   ablation_rows(config.data.published));
}

/// How far each framework leans on each modality: its features set to their training mean at test
/// time.
StudyReport reliance(const Config& config, const Dataset& dataset, const StudyOptions& options) {
  const PreparedData data = prepare_data(config, dataset);
  std::vector<Condition> conditions;
  for (const Condition& part : plain_conditions(data.split)) {
    conditions.push_back(part);
    for (const ModalityConfig& modality : config.data.modalities) {
      if (!data.dataset.features.contains(modality.feature)) continue;
      conditions.push_back({.name = part.name + " without " + modality.name,
                            .part = part.part,
                            .zeroed = modality.name});
    }
  }
  conditions.push_back({.name = "train", .part = "train"});
  const Rows rows = run_variants(frameworks(config), conditions, dataset, options);
  return bar_study(fmt::format("{}: what each modality carries", config.data.name), config,
                   conditions, rows, {});
}

/// Table 4: training and testing with Gaussian noise of each rate; the same models tested with
/// Laplace noise and erasing.
StudyReport noise(const Config& config, const Dataset& dataset, const StudyOptions& options) {
  const std::vector<double> rates = options.values.empty()
                                        ? std::vector<double>{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7}
                                        : options.values;
  for (const double rate : rates) {
    require(rate >= 0 && rate <= 1, "experiment noise", "--values are noise rates, 0 to 1; got {}",
            rate);
  }
  const std::string metric = headline_metric(config);
  const bool regression = config.data.task == "regression";
  StudyReport report{
      .title = fmt::format("{}: noise on the unimodal representations", config.data.name),
      .table = Table({{"noise rate", Best::none, 1},
                      {"test noise"},
                      {"model"},
                      {metric, Best::none, 1},
                      {"MAE", Best::none, 3}})};
  LineChart chart{.title = report.title, .x_label = "noise rate", .y_label = metric + " (%)"};
  std::map<std::string, Series> series;
  std::map<std::string, std::vector<double>> averages;
  Json seeds;
  for (const double rate : rates) {
    std::vector<Condition> conditions;
    for (const char* kind : {"gaussian", "laplace_or_erase"}) {
      NoiseConfig test = config.noise;
      test.test_kind = kind;
      test.test_rate = rate;
      conditions.push_back({.name = kind, .part = "test", .noise = test});
    }
    std::vector<Variant> variants = frameworks(config);
    for (Variant& variant : variants) {
      variant.config.noise.train_kind = "gaussian";
      variant.config.noise.train_rate = rate;
      variant.name = fmt::format("{}, rate {:g}", variant.name, rate);
    }
    const Rows rows = run_variants(variants, conditions, dataset, options);
    seeds.update(seeds_json(rows));
    for (const Condition& condition : conditions) {
      for (std::size_t f = 0; f < rows.size(); ++f) {
        const std::string model = frameworks(config)[f].name;
        const auto values = over_seeds(rows[f].second, condition.name, metric);
        report.table.add_row(
            {Cell(rate), condition.name, model, cell_of(values),
             regression ? cell_of(over_seeds(rows[f].second, condition.name, "MAE")) : Cell()});
        Series& line = series[model + ", " + condition.name];
        line.x.push_back(rate);
        line.y.push_back(mean(values));
        line.error.push_back(standard_deviation(values));
        averages[model + ", " + condition.name].push_back(mean(values));
      }
    }
  }
  report.table.add_rule();
  for (const auto& [name, values] : averages) {
    const auto comma = name.find(", ");
    report.table.add_row(
        {"average", name.substr(comma + 2), name.substr(0, comma), Cell(mean(values)), Cell()});
  }
  for (auto& [name, line] : series) {
    line.name = name;
    chart.series.push_back(line);
  }
  report.json = {{"rows", to_json(report.table)}, {"seeds", seeds}};
  report.picture = svg(chart);
  return report;
}

std::vector<double> default_sweep(const std::string& key) {
  if (key == "loss.environments") return {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  if (key == "loss.noise_intensity") return {1e-4, 1e-3, 1e-2, 0.1, 1};
  return {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1};
}

/// Fig. 5 and Table 12: one key over several values.
StudyReport sweep(const Config& config, const Dataset& dataset, const StudyOptions& options) {
  require(!options.key.empty(), "experiment sweep",
          "needs --key, for example --key loss.lambda_invariance (also loss.lambda_decorrelation, "
          "loss.lambda_reconstruction, loss.environments, loss.noise_intensity)");
  const auto values = options.values.empty() ? default_sweep(options.key) : options.values;
  std::vector<Variant> variants;
  for (const double value : values) {
    Config changed = with_framework(config, "cmir");
    apply_override(changed, fmt::format("{}={:g}", options.key, value));
    variants.push_back({fmt::format("{} = {:g}", options.key, value), changed});
  }
  const auto conditions = conditions_of(config, dataset);
  const Rows rows = run_variants(variants, conditions, dataset, options);
  StudyReport report =
      bar_study(fmt::format("{}: {}", config.data.name, options.key), config, conditions, rows, {});
  LineChart chart{
      .title = report.title, .x_label = options.key, .y_label = headline_metric(config) + " (%)"};
  chart.log_x = options.key != "loss.environments";
  for (const Condition& condition : conditions) {
    Series line{.name = condition.name, .x = values};
    for (const auto& [name, results] : rows) {
      const auto scores = over_seeds(results, condition.name, headline_metric(config));
      line.y.push_back(mean(scores));
      line.error.push_back(standard_deviation(scores));
    }
    chart.series.push_back(line);
  }
  report.picture = svg(chart);
  return report;
}

/// Table 8: the forms of R_inv.
StudyReport invariance(const Config& config, const Dataset& dataset, const StudyOptions& options) {
  std::vector<Variant> variants;
  const bool classes = config.data.task != "regression";
  for (const char* form : {"l1", classes ? "kl" : "output_difference"}) {
    Config changed = with_framework(config, "cmir");
    changed.loss.invariance = form;
    variants.push_back(
        {std::string(form) == "l1" ? "L1 over Z_inv (ours)" : "unimodal predictors (standard)",
         changed});
  }
  const auto conditions = conditions_of(config, dataset);
  const Rows rows = run_variants(variants, conditions, dataset, options);
  return bar_study(fmt::format("{}: forms of R_inv", config.data.name), config, conditions, rows,
                   published_for(config.data.published, "invariance"));
}

/// Fig. 6: the test samples' Z_inv and Z_spu, each mapped to the plane by t-SNE, coloured by the
/// sign of the label.
StudyReport embedding(const Config& config, const Dataset& dataset, const StudyOptions& options) {
  Config full = with_framework(config, "cmir");
  full.training.seeds.resize(1);
  std::vector<ScatterClass> classes;
  const auto draw = [&](const Trial&, const Model& model, const PreparedData& data) {
    const auto parts = represent(model, data, data.split.test);
    const auto labels = predict(model, data, data.split.test).labels;
    const auto samples = static_cast<std::int64_t>(labels.size());
    for (const bool invariant : {true, false}) {
      const Tensor map = tsne(join(
          parts, invariant ? &SampleRepresentations::invariant : &SampleRepresentations::spurious,
          samples));
      const auto points = map.span<double>();
      const auto [low, high] = std::ranges::minmax(points);
      for (const bool positive : {false, true}) {
        ScatterClass points_of_class{.name =
                                         fmt::format("{}, label {}", invariant ? "Z_inv" : "Z_spu",
                                                     positive ? "> 0" : "<= 0")};
        for (std::int64_t s = 0; s < samples; ++s) {
          if ((labels[s] > 0) != positive) continue;
          points_of_class.x.push_back((points[2 * s] - low) / (high - low) +
                                      (invariant ? 0 : 1.15));
          points_of_class.y.push_back((points[2 * s + 1] - low) / (high - low));
        }
        classes.push_back(std::move(points_of_class));
      }
    }
    return Values{};
  };
  StudyOptions once = options;
  once.directory.clear();  // the picture is made from the trained model: nothing to resume from
  const auto conditions = conditions_of(full, dataset);
  const Rows rows = run_variants({{"CmIR", full}}, conditions, dataset, once, {.analyse = draw});
  StudyReport report{
      .title = fmt::format("{}: t-SNE of Z_inv (left) and Z_spu (right)", config.data.name),
      .table = result_table(full, conditions, rows, {})};
  report.json = {{"rows", to_json(report.table)}, {"seeds", seeds_json(rows)}};
  report.picture = svg(ScatterChart{.title = report.title,
                                    .x_label = "t-SNE",
                                    .y_label = "t-SNE",
                                    .classes = std::move(classes)});
  return report;
}

}  // namespace

const std::vector<StudyInfo>& studies() {
  static const std::vector<StudyInfo> list = {
      {"train", "the configuration's own framework; the models are kept", train_only},
      {"table", "CmIR against the vanilla framework over the seeds, beside published figures",
       main_table},
      {"ablation", "without R_inv, R_dec or R_rec (Table 5)", ablation},
      {"reliance", "each modality's features at their training mean, at test time", reliance},
      {"noise", "noise rates 0.1 to 0.7, Gaussian and Laplace/erasing (Table 4)", noise},
      {"sweep", "one key over several values (Fig. 5, Table 12)", sweep},
      {"probing", "what Z_inv and Z_spu tell of environment and label (Table 11)", probing_study},
      {"invariance", "the forms of R_inv (Table 8)", invariance},
      {"forms", "R_dec and R_inv in other forms: accuracy, noise, probing, time", forms_study},
      {"fusion", "concatenation against cross-modal attention: metrics, parameters, time",
       fusion_study},
      {"embedding", "t-SNE picture of Z_inv and Z_spu (Fig. 6)", embedding},
  };
  return list;
}

StudyReport run_study(std::string_view name, const Config& config, const Dataset& dataset,
                      const StudyOptions& options) {
  const auto study = std::ranges::find(studies(), name, &StudyInfo::name);
  if (study == studies().end()) {
    std::string known;
    for (const StudyInfo& info : studies()) known += fmt::format(" {}", info.name);
    fail(ErrorKind::usage, "experiment", "'{}' is no study; there are:{}", name, known);
  }
  std::filesystem::create_directories(options.directory);  // an error before hours, not after
  StudyReport report = study->run(config, dataset, options);
  report.json["config"] = to_json(config);
  write_study(report, name, {{"dataset", dataset.name}}, options.directory);
  return report;
}

void write_study(StudyReport& report, std::string_view name, const Json& details,
                 const std::filesystem::path& directory) {
  Json json = {{"title", report.title}, {"study", name}};
  json.update(details);
  json.update(report.json);
  write_json((directory / "report.json").string(), json);
  write_file_atomically(directory / "table.md",
                        fmt::format("# {}\n\n{}", report.title, report.table.markdown()));
  if (!report.picture.empty()) write_file_atomically(directory / "picture.svg", report.picture);
  report.json = std::move(json);
}

}  // namespace cmir
