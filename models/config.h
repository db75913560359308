// The configuration of a run: data, model, loss, optimizer, training, noise.
//
// Each section is a struct whose members are its TOML keys. One table (models/config_keys.cpp)
// lists for every key its member, the values it may take and what it means; reading, writing,
// overriding and the help text all walk that table.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace cmir {

/// [[data.modalities]]: one input of the model and the network that turns it into X_m.
struct ModalityConfig {
  std::string name;
  std::string feature;
  bool standardise = true;
  std::string network = "projection";
  std::string embedding;
  bool train_embedding = false;
  std::int64_t embedding_width = 0;
  std::int64_t layers = 2;
  std::int64_t heads = 2;
  bool adjust_heads = false;
  std::int64_t feed_forward = 0;
  std::int64_t kernel = 3;
  std::int64_t hidden_width = 0;
  double dropout = 0.1;
  double attention_dropout = 0.0;
  std::string norm = "post";
  std::string positions = "sinusoidal";
  double position_scale = 1.0;
  std::int64_t max_positions = 512;
  std::string fuse_into;
  bool operator==(const ModalityConfig&) const = default;
};

/// [data]
struct DataConfig {
  std::string name;
  std::string path;
  std::string published;
  std::string split;
  std::int64_t fold = -1;
  std::string label;
  std::string environment;
  std::string task = "regression";
  std::string metric = "sentiment3";
  bool standardise = true;
  double validation_fraction = 0.0;
  bool merge_validation = false;
  std::string context = "none";
  bool bucket_by_length = true;
  std::int64_t max_length = 0;
  std::vector<ModalityConfig> modalities;
  bool operator==(const DataConfig&) const = default;
};

/// [model]
struct ModelConfig {
  std::string framework = "cmir";
  std::int64_t shared_width = 150;
  std::int64_t hidden_width = 256;
  std::string predictor = "A";
  std::int64_t outputs = 1;
  double dropout = 0.0;
  double representation_dropout = 0.0;
  std::string fusion = "concat";
  std::string fusion_place = "before";
  std::int64_t fusion_layers = 5;
  std::int64_t fusion_heads = 5;
  std::int64_t fusion_feed_forward = 0;
  double fusion_dropout = 0.1;
  double fusion_attention_dropout = 0.1;
  double fusion_embedding_dropout = 0.2;
  std::string fusion_positions = "sinusoidal";
  double fusion_position_scale = 0.0;
  std::int64_t fusion_max_positions = 512;
  bool use_invariance = true;
  bool use_decorrelation = true;
  bool use_reconstruction = true;
  bool operator==(const ModelConfig&) const = default;
};

/// [loss]
struct LossConfig {
  std::string prediction = "mse";
  double lambda_invariance = 0.1;
  double lambda_decorrelation = 0.001;
  double lambda_reconstruction = 0.05;
  std::int64_t environments = 1;
  double noise_intensity = 0.1;
  std::string environments_from = "noise";
  std::string invariance = "l1";
  double lambda_unimodal = 1.0;
  std::string invariance_schedule = "constant";
  double invariance_start = 0.0;
  double invariance_anneal_fraction = 0.0;
  bool irm_unbiased = false;
  double mmrex_minimum_weight = 0.0;
  bool invariance_symmetric = true;
  std::string invariance_pair_reduction = "sum";
  std::string invariance_feature_reduction = "mean";
  std::string invariance_batch_reduction = "mean";
  std::string decorrelation = "correlation";
  double estimator_learning_rate = 1e-3;
  std::int64_t estimator_steps = 1;
  double decorrelation_alpha = 1.0;
  std::string decorrelation_axis = "sample";
  std::string decorrelation_std = "unbiased";
  std::string decorrelation_scale = "none";
  double decorrelation_epsilon = 1e-12;
  std::string sufficiency = "none";
  double lambda_sufficiency = 0.1;
  double sufficiency_temperature = 0.07;
  std::string reconstruction_reduction = "mean";
  bool reconstruction_stop_gradient = false;
  bool operator==(const LossConfig&) const = default;
};

/// [[optimizer.groups]]: parameters that have a rate or decay of their own.
struct ParameterGroupConfig {
  std::string name;
  double learning_rate = 0.0;
  double weight_decay = -1.0;
  bool operator==(const ParameterGroupConfig&) const = default;
};

/// [optimizer]: AdamW.
struct OptimizerConfig {
  double learning_rate = 1e-3;
  double weight_decay = 0.01;
  bool decay_bias_and_norm = true;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double gradient_clip = 0.0;
  std::string schedule = "constant";
  double warmup_fraction = 0.0;
  std::vector<ParameterGroupConfig> groups;
  bool operator==(const OptimizerConfig&) const = default;
};

/// [training]
struct TrainingConfig {
  std::int64_t epochs = 30;
  std::int64_t batch_size = 48;
  std::int64_t patience = 0;
  std::string checkpoint = "last";
  std::string device = "cpu";
  bool capture = true;
  std::string precision = "f32";
  std::vector<std::int64_t> seeds = {1, 2, 3, 4, 5};
  std::int64_t noise_seed = 20260;
  bool operator==(const TrainingConfig&) const = default;
};

/// [noise]: the corruption protocol of section 5.4.
struct NoiseConfig {
  std::string train_kind = "none";
  double train_rate = 0.0;
  std::string test_kind = "none";
  double test_rate = 0.0;
  double laplace_scale = 0.7071067811865476;
  bool operator==(const NoiseConfig&) const = default;
};

struct Config {
  DataConfig data;
  ModelConfig model;
  LossConfig loss;
  OptimizerConfig optimizer;
  TrainingConfig training;
  NoiseConfig noise;
  bool operator==(const Config&) const = default;
};

/// Reads TOML text; `origin` names it in messages ("mosi.toml"). An unknown key, a wrong type or a
/// value out of range is an Error of kind usage: "mosi.toml:12: unknown key 'loss.enviroments'; did
/// you mean 'loss.environments'?". Keys left out keep their defaults. Calls validate().
Config parse_config(std::string_view toml, std::string_view origin);
/// parse_config over a file's content.
Config load_config(const std::filesystem::path& file);
/// `load_config` of a path, or of a shipped configuration's name ("mosi" or "mosi.toml"); see
/// find_config.
std::filesystem::path find_config(std::string_view name_or_path);
/// Names of the shipped configurations, sorted, without ".toml".
std::vector<std::string> shipped_configs();

/// Applies "loss.environments=4", "data.modalities.text.dropout=0.2" (by the modality's name) or
/// "optimizer.groups.encoder.learning_rate=1e-5" (by the group's name; made if absent). The value
/// is TOML; a bare word is a string. Does not call validate(), so that several overrides may pass
/// through an inconsistent state.
void apply_override(Config& config, std::string_view assignment);

/// Checks what no single key shows: modality names unique, fuse_into points at another modality,
/// loss suits the task, and so on.
void validate(const Config& config);

/// `config` with the default device and capture: what a run's results and checkpoints depend on.
Config without_device(Config config);

/// All keys, so that parse_config(to_toml(c)) == c bit for bit; each with its comment when asked.
std::string to_toml(const Config& config, bool with_comments = false);
nlohmann::ordered_json to_json(const Config& config);
/// The inverse of to_json.
Config config_from_json(const nlohmann::ordered_json& json, std::string_view origin);
/// One line per key: name, default, allowed values, meaning.
std::string config_help();

}  // namespace cmir
