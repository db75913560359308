#include "models/config.h"

#include <algorithm>
#include <concepts>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <utility>
#include <variant>

#include <fmt/ranges.h>
#include <toml++/toml.h>
#include <nlohmann/json.hpp>

#include "core/device.h"
#include "core/error.h"
#include "core/nearest_name.h"

namespace cmir {
namespace {

using Json = nlohmann::ordered_json;

// ---- The table
// -------------------------------------------------------------------------------------------------

/// The values a key may take: a closed range for numbers (each number of a list), a choice for
/// strings.
struct Allowed {
  double low = -std::numeric_limits<double>::max();
  double high = std::numeric_limits<double>::max();
  std::vector<std::string_view> choices;

  std::string describe() const {
    if (!choices.empty()) return fmt::format("one of {}", fmt::join(choices, ", "));
    const Allowed free;
    if (low == free.low && high == free.high) return "any";
    if (high == free.high) return fmt::format("at least {}", low);
    return fmt::format("{} to {}", low, high);
  }
};
Allowed at_least(double low) { return {.low = low}; }
Allowed between(double low, double high) { return {.low = low, .high = high}; }
Allowed one_of(std::vector<std::string_view> choices) { return {.choices = std::move(choices)}; }

template <class Section>
struct Field {
  std::string_view key;
  std::variant<bool Section::*, std::int64_t Section::*, double Section::*, std::string Section::*,
               std::vector<std::int64_t> Section::*>
      member;
  Allowed allowed;
  std::string_view comment;
};
template <class Section>
using Fields = std::vector<Field<Section>>;

constexpr double kProbability = 0.999;  // of dropping: 1 would drop all

const Fields<ModalityConfig>& fields(const ModalityConfig&) {
  using M = ModalityConfig;
  static const Fields<M> table = {
      {"name", &M::name, {}, "name of the modality, as parameters and reports use it"},
      {"feature",
       &M::feature,
       {},
       "the data set's tensor: vectors, a sequence (with offsets), or tokens"},
      {"standardise", &M::standardise, {}, "whether data.standardise touches this feature"},
      {"network", &M::network,
       one_of({"projection", "mlp", "conv_transformer", "transformer_conv", "transformer",
               "context_conv", "none"}),
       "projection: Linear (of the mean over time); mlp; conv_transformer: Eq. 11; "
       "transformer_conv: Eq. 12; transformer: at "
       "the raw width, mean, Linear; context_conv: Conv1D over the samples of a group "
       "(data.context); none: the vector itself"},
      {"embedding",
       &M::embedding,
       {},
       "tokens: the data set's embedding table, or empty for a table learned from scratch"},
      {"train_embedding",
       &M::train_embedding,
       {},
       "tokens: train the data set's table (a learned one always is)"},
      {"embedding_width", &M::embedding_width, at_least(0),
       "tokens without a table: width of the learned one"},
      {"layers", &M::layers, between(0, 64),
       "open choice: Transformer layers, or hidden layers of the MLP"},
      {"heads", &M::heads, between(1, 256),
       "open choice: attention heads; must divide the Transformer's width"},
      {"adjust_heads",
       &M::adjust_heads,
       {},
       "take the largest divisor of the width up to heads instead of an error"},
      {"feed_forward", &M::feed_forward, between(0, 65536),
       "open choice: feed-forward width; 0 is 4 x the Transformer's width"},
      {"kernel", &M::kernel, between(1, 255),
       "Conv1D kernel, odd; the paper: 3 for Eq. 11, K_m unstated for Eq. 12"},
      {"hidden_width", &M::hidden_width, between(0, 65536),
       "MLP hidden width; 0 is model.hidden_width"},
      {"dropout", &M::dropout, between(0, kProbability),
       "open choice: dropout inside the unimodal network"},
      {"attention_dropout", &M::attention_dropout, between(0, kProbability),
       "open choice: dropout of the attention weights"},
      {"norm", &M::norm, one_of({"pre", "post"}),
       "open choice: LayerNorm before (MulT) or after (PyTorch) each sublayer"},
      {"positions", &M::positions, one_of({"none", "sinusoidal", "learned"}),
       "open choice: positional embedding"},
      {"position_scale", &M::position_scale, at_least(0),
       "x is multiplied by this before positions are added; 0 is sqrt(width)"},
      {"max_positions", &M::max_positions, between(1, 1 << 20),
       "rows of a learned positional table"},
      {"fuse_into",
       &M::fuse_into,
       {},
       "name of the modality that absorbs this one: X_target <- Linear(concat(X_target, X_this)), "
       "as HCF in Eq. 13"},
  };
  return table;
}

const Fields<DataConfig>& fields(const DataConfig&) {
  using D = DataConfig;
  static const Fields<D> table = {
      {"name", &D::name, {}, "the data set; searched under --data, CMIR_DATA and ../shared/data"},
      {"path", &D::path, {}, "its directory or file, instead of a search by name"},
      {"published",
       &D::published,
       {},
       "whose published rows stand beside ours in tables: a name of paper_results.h, or empty"},
      {"split", &D::split, {}, "the tensor that says which part each sample belongs to"},
      {"fold", &D::fold, at_least(-1),
       "with a tensor of folds: the test fold; -1: the tensor holds parts (0 train, 1 valid, 2 "
       "test, 3 OOD)"},
      {"label", &D::label, {}, "the tensor of labels"},
      {"task", &D::task, one_of({"regression", "binary", "multiclass"}), "what the labels are"},
      {"metric", &D::metric, one_of({"sentiment3", "sims", "binary", "multiclass"}),
       "the family of metrics of section 5.3"},
      {"standardise",
       &D::standardise,
       {},
       "features to mean 0 and deviation 1 by the training part's statistics"},
      {"validation_fraction", &D::validation_fraction, between(0, 0.9),
       "part of the training samples cut off for validation, by video"},
      {"merge_validation",
       &D::merge_validation,
       {},
       "train on the training and the validation part together"},
      {"context", &D::context, one_of({"none", "group"}),
       "group: batches are whole groups (videos), so that networks see a sample's neighbours; "
       "training.batch_size then counts groups"},
      {"bucket_by_length", &D::bucket_by_length, {}, "batches of samples of similar length"},
      {"max_length", &D::max_length, at_least(0),
       "open choice: rows of a sequence kept (the first ones); 0 is all"},
  };
  return table;
}
/// The list of tables below a section, with its key; the section may be const.
template <class Section>
requires std::same_as<std::remove_const_t<Section>, DataConfig>
auto nested(Section& data) { return std::pair(std::string_view("modalities"), &data.modalities); }

const Fields<ModelConfig>& fields(const ModelConfig&) {
  using M = ModelConfig;
  static const Fields<M> table = {
      {"framework", &M::framework, one_of({"cmir", "vanilla"}),
       "vanilla: the X_m go straight to the predictor"},
      {"shared_width", &M::shared_width, between(1, 65536), "d of Table 7: width of X_m and Z_m"},
      {"hidden_width", &M::hidden_width, between(1, 65536),
       "d' of Table 7: hidden width of encoder, decoder and predictor"},
      {"predictor", &M::predictor, one_of({"A", "B"}),
       "open choice: reading of Fig. 7. A: Md-d'-d-d'-out; B: Md-d'-d'-d'-out"},
      {"outputs", &M::outputs, between(1, 65536),
       "1 for regression and binary tasks, the number of classes otherwise"},
      {"dropout", &M::dropout, between(0, kProbability),
       "open choice: dropout after the predictor's ReLUs"},
      {"representation_dropout", &M::representation_dropout, between(0, kProbability),
       "open choice: dropout of X_m"},
      {"use_invariance",
       &M::use_invariance,
       {},
       "ablation: false drops R_inv and the noisy variants"},
      {"use_decorrelation", &M::use_decorrelation, {}, "ablation: false drops R_dec"},
      {"use_reconstruction",
       &M::use_reconstruction,
       {},
       "ablation: false drops R_rec and the decoders"},
  };
  return table;
}

const Fields<LossConfig>& fields(const LossConfig&) {
  using L = LossConfig;
  static const Fields<L> table = {
      {"prediction", &L::prediction, one_of({"mse", "mae", "bce", "cross_entropy"}),
       "L_pred; bce takes logits"},
      {"lambda_invariance", &L::lambda_invariance, at_least(0), "l1 of Table 7; 0 drops the term"},
      {"lambda_decorrelation", &L::lambda_decorrelation, at_least(0),
       "l2 of Table 7; 0 drops the term"},
      {"lambda_reconstruction", &L::lambda_reconstruction, at_least(0),
       "l3 of Table 7; 0 drops the term"},
      {"environments", &L::environments, between(0, 64),
       "K of Table 7: noisy variants beside the clean one; 0 drops R_inv"},
      {"noise_intensity", &L::noise_intensity, at_least(0),
       "alpha(1) of Table 7; environment e has alpha(1) e"},
      {"invariance", &L::invariance, one_of({"l1", "kl", "output_difference"}),
       "l1: Eq. 4; kl and output_difference: appendix H, on the outputs of unimodal predictors"},
      {"lambda_unimodal", &L::lambda_unimodal, at_least(0),
       "open choice: weight of L_pred of appendix H's unimodal predictors"},
      {"invariance_symmetric",
       &L::invariance_symmetric,
       {},
       "open choice: kl in both directions of a pair, halved"},
      {"invariance_pair_reduction", &L::invariance_pair_reduction, one_of({"sum", "mean"}),
       "open choice: over the K(K+1)/2 pairs"},
      {"invariance_feature_reduction", &L::invariance_feature_reduction, one_of({"sum", "mean"}),
       "open choice: over the d features"},
      {"invariance_batch_reduction", &L::invariance_batch_reduction, one_of({"sum", "mean"}),
       "open choice: over the samples"},
      {"decorrelation_alpha", &L::decorrelation_alpha, between(0, 1),
       "alpha in R_dec, Table 7: weight off the diagonal"},
      {"decorrelation_axis", &L::decorrelation_axis, one_of({"sample", "feature"}),
       "open choice: Nor over each sample's d features, or over each feature's N samples"},
      {"decorrelation_std", &L::decorrelation_std, one_of({"population", "unbiased"}),
       "open choice: division by n or by n - 1"},
      {"decorrelation_scale", &L::decorrelation_scale, one_of({"none", "width", "batch"}),
       "open choice: C divided by 1, d or N"},
      {"decorrelation_epsilon", &L::decorrelation_epsilon, between(0, 1),
       "open choice: added to the variance"},
      {"reconstruction_reduction", &L::reconstruction_reduction, one_of({"mean", "sum"}),
       "open choice: over the features; the mean over samples is taken in both"},
      {"reconstruction_stop_gradient",
       &L::reconstruction_stop_gradient,
       {},
       "open choice: no gradient into the target X_m"},
  };
  return table;
}

const Fields<ParameterGroupConfig>& fields(const ParameterGroupConfig&) {
  using G = ParameterGroupConfig;
  static const Fields<G> table = {
      {"name",
       &G::name,
       {},
       "prefix of the parameters' names, such as \"unimodal.text\"; the longest that matches wins"},
      {"learning_rate", &G::learning_rate, at_least(0), "their rate; 0 is optimizer.learning_rate"},
      {"weight_decay", &G::weight_decay, at_least(-1), "their decay; -1 is optimizer.weight_decay"},
  };
  return table;
}

const Fields<OptimizerConfig>& fields(const OptimizerConfig&) {
  using O = OptimizerConfig;
  static const Fields<O> table = {
      {"learning_rate", &O::learning_rate, at_least(0), "AdamW, Table 7"},
      {"weight_decay", &O::weight_decay, at_least(0), "open choice: decoupled decay"},
      {"decay_bias_and_norm",
       &O::decay_bias_and_norm,
       {},
       "open choice: false spares biases and LayerNorms (ITHP)"},
      {"beta1", &O::beta1, between(0, 0.999999), "decay of the first moment"},
      {"beta2", &O::beta2, between(0, 0.999999), "decay of the second moment"},
      {"epsilon", &O::epsilon, between(0, 1), "added to the root of the second moment"},
      {"gradient_clip", &O::gradient_clip, at_least(0),
       "open choice: bound on the norm of all gradients together; 0 is none"},
      {"schedule", &O::schedule, one_of({"constant", "linear", "cosine"}),
       "open choice: decay of the rate to 0 after the warm-up"},
      {"warmup_fraction", &O::warmup_fraction, between(0, 1),
       "open choice: part of all steps with a linearly rising rate"},
  };
  return table;
}
template <class Section>
requires std::same_as<std::remove_const_t<Section>, OptimizerConfig>
auto nested(Section& optimizer) { return std::pair(std::string_view("groups"), &optimizer.groups); }

const Fields<TrainingConfig>& fields(const TrainingConfig&) {
  using T = TrainingConfig;
  static const Fields<T> table = {
      {"epochs", &T::epochs, between(0, 1e6), "open choice: passes over the training part"},
      {"batch_size", &T::batch_size, between(1, 1e6), "Table 7"},
      {"patience", &T::patience, between(0, 1e6),
       "open choice: epochs without a better validation before stopping; 0 never stops"},
      {"checkpoint", &T::checkpoint, one_of({"last", "best_validation_loss", "best_metric"}),
       "open choice: the epoch that is reported"},
      {"device",
       &T::device,
       {},
       "where the model runs: cpu, cuda (the first GPU), cuda:N, or simt (the CUDA kernels on the "
       "CPU, for tests)"},
      {"seeds", &T::seeds, between(0, 9e15), "one run each; the paper reports the mean of 5"},
      {"noise_seed", &T::noise_seed, between(0, 9e15),
       "seed of the corruption at test, the same for every run"},
  };
  return table;
}

const Fields<NoiseConfig>& fields(const NoiseConfig&) {
  using N = NoiseConfig;
  static const std::vector<std::string_view> kinds = {"none", "gaussian", "laplace", "erase",
                                                      "laplace_or_erase"};
  static const Fields<N> table = {
      {"train_kind", &N::train_kind, one_of(kinds), "corruption of X_m in training (section 5.4)"},
      {"train_rate", &N::train_rate, between(0, 1), "NR of Eq. 14 in training"},
      {"test_kind", &N::test_kind, one_of(kinds),
       "corruption of X_m at test; the OOD protocol is laplace_or_erase"},
      {"test_rate", &N::test_rate, between(0, 1), "NR of Eq. 14 at test"},
      {"laplace_scale", &N::laplace_scale, at_least(0),
       "open choice: scale b of the Laplace noise; sqrt(1/2) has deviation 1"},
  };
  return table;
}

/// f(name, section) for each section of a Config, const or not.
template <class AnyConfig, class F>
void for_each_section(AnyConfig& config, F&& f) {
  f("data", config.data);
  f("model", config.model);
  f("loss", config.loss);
  f("optimizer", config.optimizer);
  f("training", config.training);
  f("noise", config.noise);
}

/// f(name of the list, its tables) if the section has a list of tables.
template <class Section, class F>
void for_nested(Section& section, F&& f) {
  if constexpr (requires { nested(section); }) {
    const auto [name, tables] = nested(section);
    f(name, *tables);
  }
}

/// Every key as messages name it: "loss.environments", "data.modalities.dropout".
std::vector<std::string> all_keys() {
  std::vector<std::string> keys;
  const auto add = [&](const std::string& prefix, const auto& table) {
    for (const auto& field : fields(table)) keys.push_back(fmt::format("{}.{}", prefix, field.key));
  };
  const Config defaults;
  for_each_section(defaults, [&](std::string_view name, const auto& section) {
    add(std::string(name), section);
    for_nested(section, [&](std::string_view list, const auto& tables) {
      add(fmt::format("{}.{}", name, list), typename std::decay_t<decltype(tables)>::value_type{});
    });
  });
  return keys;
}

// ---- Messages
// ---------------------------------------------------------------------------------------------------

[[noreturn]] void fail_unknown(std::string_view where, std::string key) {
  if (key.size() > 200) key = key.substr(0, 200) + "...";
  std::vector<std::string> names = all_keys();
  const Config defaults;
  for_each_section(defaults, [&](std::string_view name, const auto&) { names.emplace_back(name); });
  fail(ErrorKind::usage, where, "unknown key '{}'; did you mean '{}'?", key,
       nearest_name(key, names));
}

std::string type_name(const Json& value) {
  if (value.is_boolean()) return "a boolean";
  if (value.is_number_integer()) return "an integer";
  if (value.is_number_float()) return "a number";
  if (value.is_string()) return "a string";
  return value.is_array() ? "a list" : value.is_object() ? "a table" : "a date or null";
}

// ---- Reading
// ----------------------------------------------------------------------------------------------------

/// `value` as a T, or nothing where the type differs. Integers serve as numbers, not the reverse.
template <class T>
std::optional<T> as(const Json& value) {
  if constexpr (std::is_same_v<T, bool>) {
    if (value.is_boolean()) return value.get<bool>();
  } else if constexpr (std::is_same_v<T, std::int64_t>) {
    const bool fits =
        !value.is_number_unsigned() ||
        value.get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<T>::max());
    if (value.is_number_integer() && fits) return value.get<std::int64_t>();
  } else if constexpr (std::is_same_v<T, double>) {
    if (value.is_number()) return value.get<double>();
  } else if constexpr (std::is_same_v<T, std::string>) {
    if (value.is_string()) return value.get<std::string>();
  } else {
    if (!value.is_array()) return std::nullopt;
    T list;
    for (const Json& element : value) {
      const auto one = as<typename T::value_type>(element);
      if (!one) return std::nullopt;
      list.push_back(*one);
    }
    return list;
  }
  return std::nullopt;
}

template <class T>
constexpr std::string_view kTypeName = "a list of integers";
template <>
constexpr std::string_view kTypeName<bool> = "true or false";
template <>
constexpr std::string_view kTypeName<std::int64_t> = "an integer";
template <>
constexpr std::string_view kTypeName<double> = "a number";
template <>
constexpr std::string_view kTypeName<std::string> = "a string";

bool is_allowed(const Allowed& allowed, double value) {
  return value >= allowed.low && value <= allowed.high;  // NaN is not
}
bool is_allowed(const Allowed& allowed, bool) { return allowed.choices.empty(); }
bool is_allowed(const Allowed& allowed, const std::string& value) {
  if (std::ranges::any_of(value, [](unsigned char c) { return c < 0x20 || c == 0x7F; }))
    return false;
  try {
    (void)Json(value).dump();
  } catch (const Json::type_error&) {  // no UTF-8: neither TOML nor JSON could hold it
    return false;
  }
  return allowed.choices.empty() ||
         std::ranges::find(allowed.choices, value) != allowed.choices.end();
}
bool is_allowed(const Allowed& allowed, const std::vector<std::int64_t>& values) {
  return !values.empty() && std::ranges::all_of(values, [&](std::int64_t v) {
    return is_allowed(allowed, static_cast<double>(v));
  });
}

std::string shown(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200);
}

template <class Section>
void assign(Section& section, const Field<Section>& field, const Json& value,
            std::string_view where, std::string_view name) {
  std::visit(
      [&]<class T>(T Section::*member) {
        const std::optional<T> converted = as<T>(value);
        require(converted.has_value(), where, "'{}' must be {}, not {} ({})", name, kTypeName<T>,
                type_name(value), shown(value));
        bool allowed = false;
        if constexpr (std::is_same_v<T, std::int64_t>) {
          allowed = is_allowed(field.allowed, static_cast<double>(*converted));
        } else {
          allowed = is_allowed(field.allowed, *converted);
        }
        require(allowed, where, "'{}' = {} is not allowed; allowed: {}", name, shown(value),
                field.allowed.describe());
        section.*member = *converted;
      },
      field.member);
}

/// Where in the source a path of keys and indices ("data.modalities.0.dropout") was written.
using Locate = std::function<std::string(const std::string& path)>;

template <class Section>
const Field<Section>* find_field(const Section& section, std::string_view key) {
  const auto& table = fields(section);
  const auto found = std::ranges::find(table, key, &Field<Section>::key);
  return found == table.end() ? nullptr : &*found;
}

/// Reads the keys of one table; `path` is where it stands, `name` what messages call it (paths have
/// list indices, names do not).
template <class Section>
void read_table(Section& section, const Json& json, const std::string& path,
                const std::string& name, const Locate& locate) {
  require(json.is_object(), locate(path), "'{}' must be a table, not {}", name, type_name(json));
  for (const auto& [key, value] : json.items()) {
    const std::string key_path = path + "." + key;
    const std::string key_name = name + "." + key;
    if (const auto* field = find_field(section, key)) {
      assign(section, *field, value, locate(key_path), key_name);
      continue;
    }
    bool is_list = false;
    for_nested(section, [&](std::string_view list, auto& tables) {
      if (list != key) return;
      is_list = true;
      require(value.is_array(), locate(key_path), "'{}' must be a list of tables: [[{}]]", key_name,
              key_name);
      tables.clear();
      for (std::size_t i = 0; i < value.size(); ++i) {
        read_table(tables.emplace_back(), value[i], fmt::format("{}.{}", key_path, i), key_name,
                   locate);
      }
    });
    if (!is_list) fail_unknown(locate(key_path), key_name);
  }
}

Config read_config(const Json& json, std::string_view origin, const Locate& locate) {
  Config config;
  require(json.is_object(), origin, "a configuration must be a table, not {}", type_name(json));
  for (const auto& [key, value] : json.items()) {
    bool known = false;
    for_each_section(config, [&](std::string_view name, auto& section) {
      if (name != key) return;
      known = true;
      read_table(section, value, key, key, locate);
    });
    if (!known) fail_unknown(locate(key), key);
  }
  try {
    validate(config);
  } catch (const Error& error) {
    throw Error(error.kind(), origin, error.what());
  }
  return config;
}

/// A TOML node as JSON; `lines` gets the line of every path below it.
Json to_json_with_lines(const toml::node& node, const std::string& path,
                        std::map<std::string, std::size_t>& lines) {
  lines[path] = node.source().begin.line;
  if (const auto* table = node.as_table()) {
    Json json = Json::object();
    for (const auto& [key, value] : *table) {
      const std::string name(key.str());
      json[name] = to_json_with_lines(value, path.empty() ? name : path + "." + name, lines);
    }
    return json;
  }
  if (const auto* array = node.as_array()) {
    Json json = Json::array();
    for (const toml::node& value : *array) {
      json.push_back(to_json_with_lines(value, fmt::format("{}.{}", path, json.size()), lines));
    }
    return json;
  }
  if (const auto* value = node.as_boolean()) return value->get();
  if (const auto* value = node.as_integer()) return value->get();
  if (const auto* value = node.as_floating_point()) return value->get();
  if (const auto* value = node.as_string()) return value->get();
  return nullptr;  // dates and times: no key takes one
}

/// The value of an assignment: TOML where it parses, else the text itself.
Json parse_value(std::string_view text) {
  try {
    const toml::table table = toml::parse(fmt::format("value = {}", text));
    std::map<std::string, std::size_t> lines;
    if (table.size() == 1) return to_json_with_lines(*table.get("value"), "value", lines);
  } catch (const toml::parse_error&) {  // a bare word
  }
  return std::string(text);
}

// ---- Writing
// ----------------------------------------------------------------------------------------------------

/// A value as TOML. JSON's notation is TOML's for strings, booleans, integers, lists and shortest
/// doubles ("1e-05", "0.1", "1.0").
std::string toml_value(const Json& value) { return value.dump(); }

template <class Section>
Json value_of(const Section& section, const Field<Section>& field) {
  return std::visit([&](auto member) { return Json(section.*member); }, field.member);
}

template <class Section>
void write_table(std::string& out, const Section& section, bool with_comments) {
  for (const auto& field : fields(section)) {
    if (with_comments) {
      const std::string allowed = field.allowed.describe();
      out += fmt::format("# {}{}\n", field.comment,
                         allowed == "any" ? "" : fmt::format(" ({})", allowed));
    }
    out += fmt::format("{} = {}\n", field.key, toml_value(value_of(section, field)));
  }
}

template <class Section>
Json table_to_json(const Section& section) {
  Json json = Json::object();
  for (const auto& field : fields(section)) json[std::string(field.key)] = value_of(section, field);
  for_nested(section, [&](std::string_view list, const auto& tables) {
    Json array = Json::array();
    for (const auto& table : tables) array.push_back(table_to_json(table));
    json[std::string(list)] = std::move(array);
  });
  return json;
}

// ---- Overriding
// -------------------------------------------------------------------------------------------------

/// The table called `name` in a list; a list of modalities must have it, a parameter group is made.
ModalityConfig& named(std::vector<ModalityConfig>& modalities, std::string_view name) {
  for (ModalityConfig& modality : modalities) {
    if (modality.name == name) return modality;
  }
  std::vector<std::string> names;
  for (const ModalityConfig& modality : modalities) names.push_back(modality.name);
  fail(ErrorKind::usage, "config", "no modality is called '{}'; there are: {}", name,
       fmt::join(names, ", "));
}
ParameterGroupConfig& named(std::vector<ParameterGroupConfig>& groups, std::string_view name) {
  for (ParameterGroupConfig& group : groups) {
    if (group.name == name) return group;
  }
  groups.push_back({.name = std::string(name)});
  return groups.back();
}

/// Applies key = value below one section; false if the section has no such key.
template <class Section>
bool override_key(Section& section, std::string_view key, const Json& value,
                  const std::string& full_name) {
  if (const auto* field = find_field(section, key)) {
    assign(section, *field, value, "config", full_name);
    return true;
  }
  bool done = false;
  for_nested(section, [&](std::string_view list, auto& tables) {
    const auto dot = key.rfind('.');
    if (!key.starts_with(fmt::format("{}.", list)) || dot <= list.size()) return;
    const std::string_view table = key.substr(list.size() + 1, dot - list.size() - 1);
    typename std::decay_t<decltype(tables)>::value_type probe;
    if (find_field(probe, key.substr(dot + 1)) == nullptr) return;
    done = override_key(named(tables, table), key.substr(dot + 1), value, full_name);
  });
  return done;
}

// ---- Files
// ------------------------------------------------------------------------------------------------------

std::vector<std::filesystem::path> config_directories() {
  std::error_code ignored;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", ignored);
  return {program.parent_path() / "configs", program.parent_path() / "../share/cmir/configs",
          CMIR_CONFIG_DIR};
}

}  // namespace

Config parse_config(std::string_view toml_text, std::string_view origin) {
  toml::table table;
  try {
    table = toml::parse(toml_text, origin);
  } catch (const toml::parse_error& error) {
    fail(ErrorKind::usage, fmt::format("{}:{}", origin, error.source().begin.line), "{}",
         error.description());
  }
  std::map<std::string, std::size_t> lines;
  const Json json = to_json_with_lines(table, "", lines);
  return read_config(json, origin, [&](const std::string& path) {
    const auto line = lines.find(path);
    return line == lines.end() ? std::string(origin) : fmt::format("{}:{}", origin, line->second);
  });
}

Config load_config(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();
  if (!stream) fail(ErrorKind::io, "config", "cannot read '{}'", file.string());
  return parse_config(text.str(), file.string());
}

Config config_from_json(const Json& json, std::string_view origin) {
  return read_config(json, origin, [&](const std::string&) { return std::string(origin); });
}

void apply_override(Config& config, std::string_view assignment) {
  const auto equals = assignment.find('=');
  require(equals != std::string_view::npos, "config",
          "'{}' is no assignment; write section.key=value", assignment);
  const auto trim = [](std::string_view text) {
    const auto begin = text.find_first_not_of(" \t");
    return begin == std::string_view::npos
               ? ""
               : text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
  };
  const std::string key(trim(assignment.substr(0, equals)));
  const Json value = parse_value(trim(assignment.substr(equals + 1)));
  bool done = false;
  for_each_section(config, [&](std::string_view name, auto& section) {
    if (key.starts_with(fmt::format("{}.", name))) {
      done = override_key(section, std::string_view(key).substr(name.size() + 1), value, key);
    }
  });
  if (!done) fail_unknown("config", key);
}

void validate(const Config& config) {
  const auto& data = config.data;
  std::set<std::string> names;
  for (const ModalityConfig& m : data.modalities) {
    require(!m.name.empty() && m.name.find('.') == std::string::npos, "config",
            "a modality needs a name without dots, got '{}'", m.name);
    require(names.insert(m.name).second, "config", "two modalities are called '{}'", m.name);
    require(!m.feature.empty(), "config", "modality '{}' names no feature of the data set", m.name);
    require(m.network != "context_conv" || data.context == "group", "config",
            "modality '{}': network = 'context_conv' needs data.context = \"group\"", m.name);
    require(m.kernel % 2 == 1, "config",
            "modality '{}': kernel = {} must be odd, so that its padding is symmetric", m.name,
            m.kernel);
  }
  std::size_t reaching = 0;
  for (const ModalityConfig& m : data.modalities) {
    reaching += m.fuse_into.empty();
    if (m.fuse_into.empty()) continue;
    const auto target = std::ranges::find(data.modalities, m.fuse_into, &ModalityConfig::name);
    require(target != data.modalities.end() && target->name != m.name && target->fuse_into.empty(),
            "config",
            "modality '{}': fuse_into = '{}' must name another modality that is not itself fused",
            m.name, m.fuse_into);
  }
  require(reaching >= 1, "config",
          "data.modalities must list at least one modality that is not fused into another");

  const std::string& loss = config.loss.prediction;
  const std::string& task = data.task;
  const bool suits = task == "regression" ? loss == "mse" || loss == "mae"
                     : task == "binary"   ? loss == "bce"
                                          : loss == "cross_entropy";
  require(
      suits, "config",
      "loss.prediction = '{}' does not suit data.task = '{}' (regression: mse, mae; binary: bce; "
      "multiclass: cross_entropy)",
      loss, task);
  const std::int64_t outputs = config.model.outputs;
  require(task == "multiclass" ? outputs >= 2 : outputs == 1, "config",
          "model.outputs = {} does not suit data.task = '{}' (multiclass: the number of classes; "
          "otherwise 1)",
          outputs, task);
  (void)parse_device(config.training.device);
  const auto& noise = config.noise;
  require((noise.train_kind == "none") <= (noise.train_rate == 0) &&
              (noise.test_kind == "none") <= (noise.test_rate == 0),
          "config", "a noise rate above 0 needs a kind other than 'none'");
  std::set<std::string> groups;
  for (const ParameterGroupConfig& group : config.optimizer.groups) {
    require(groups.insert(group.name).second, "config", "two optimizer.groups are called '{}'",
            group.name);
  }
}

Config without_device(Config config) {
  config.training.device = TrainingConfig{}.device;
  return config;
}

std::string to_toml(const Config& config, bool with_comments) {
  std::string out;
  for_each_section(config, [&](std::string_view name, const auto& section) {
    out += fmt::format("{}[{}]\n", out.empty() ? "" : "\n", name);
    write_table(out, section, with_comments);
    for_nested(section, [&](std::string_view list, const auto& tables) {
      for (const auto& table : tables) {
        out += fmt::format("\n[[{}.{}]]\n", name, list);
        write_table(out, table, with_comments);
      }
    });
  });
  return out;
}

Json to_json(const Config& config) {
  Json json = Json::object();
  for_each_section(config, [&](std::string_view name, const auto& section) {
    json[std::string(name)] = table_to_json(section);
  });
  return json;
}

std::string config_help() {
  const Config defaults;
  std::string out;
  const auto describe = [&](const std::string& prefix, const auto& section) {
    for (const auto& field : fields(section)) {
      out += fmt::format("{}.{} = {}  ({})\n    {}\n", prefix, field.key,
                         toml_value(value_of(section, field)), field.allowed.describe(),
                         field.comment);
    }
  };
  for_each_section(defaults, [&](std::string_view name, const auto& section) {
    describe(std::string(name), section);
    for_nested(section, [&](std::string_view list, const auto& tables) {
      describe(fmt::format("{}.{}.NAME", name, list),
               typename std::decay_t<decltype(tables)>::value_type{});
    });
  });
  return out;
}

std::filesystem::path find_config(std::string_view name_or_path) {
  const std::filesystem::path given(name_or_path);
  if (std::filesystem::is_regular_file(given)) return given;
  std::string name(name_or_path);
  if (!name.ends_with(".toml")) name += ".toml";
  for (const auto& directory : config_directories()) {
    if (std::filesystem::is_regular_file(directory / name)) return directory / name;
  }
  fail(ErrorKind::io, "config",
       "there is no file '{}' and no shipped configuration of that name; shipped: {}", name_or_path,
       fmt::join(shipped_configs(), ", "));
}

std::vector<std::string> shipped_configs() {
  std::set<std::string> names;
  for (const auto& directory : config_directories()) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
      if (entry.path().extension() == ".toml") names.insert(entry.path().stem().string());
    }
  }
  return {names.begin(), names.end()};
}

}  // namespace cmir
