#include "models/config_keys.h"

#include <fmt/ranges.h>

namespace cmir::config_keys {
namespace {

Allowed at_least(double low) { return {.low = low}; }
Allowed between(double low, double high) { return {.low = low, .high = high}; }
Allowed one_of(std::vector<std::string_view> choices) { return {.choices = std::move(choices)}; }

constexpr double kProbability = 0.999;  // of dropping: 1 would drop all

}  // namespace

std::string Allowed::describe() const {
  if (!choices.empty()) return fmt::format("one of {}", fmt::join(choices, ", "));
  const Allowed free;
  if (low == free.low && high == free.high) return "any";
  if (high == free.high) return fmt::format("at least {}", low);
  return fmt::format("{} to {}", low, high);
}

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
      {"environment",
       &D::environment,
       {},
       "for loss.environments_from = \"data\": what numbers each sample's environment, such as an "
       "extra tensor, group, or a label or fold of integers"},
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
      {"fusion", &M::fusion, one_of({"concat", "crossmodal"}),
       "how modalities meet. concat: side by side before the predictor (the paper); crossmodal: "
       "every modality's time steps attend to every other's, as in MulT"},
      {"fusion_place", &M::fusion_place, one_of({"before", "after"}),
       "crossmodal: before disentanglement, what the encoders see is the result; after: the "
       "Z_inv of the time steps attend, what the predictor sees is the result"},
      {"fusion_layers", &M::fusion_layers, between(1, 64),
       "crossmodal: layers for each pair of modalities; MulT: 5"},
      {"fusion_heads", &M::fusion_heads, between(1, 256),
       "crossmodal: attention heads; must divide shared_width; MulT: 5"},
      {"fusion_feed_forward", &M::fusion_feed_forward, between(0, 65536),
       "crossmodal: feed-forward width; 0 is 4 x shared_width (MulT)"},
      {"fusion_dropout", &M::fusion_dropout, between(0, kProbability),
       "crossmodal: dropout of attention's and feed-forward's results and of ReLUs; MulT: 0.1"},
      {"fusion_attention_dropout", &M::fusion_attention_dropout, between(0, kProbability),
       "crossmodal: dropout of the attention weights; MulT: 0.1 on text, 0 elsewhere"},
      {"fusion_embedding_dropout", &M::fusion_embedding_dropout, between(0, kProbability),
       "crossmodal: dropout of what enters the first layer; MulT: 0.2"},
      {"fusion_positions", &M::fusion_positions, one_of({"none", "sinusoidal", "learned"}),
       "crossmodal: positional embedding; MulT: sinusoidal"},
      {"fusion_position_scale", &M::fusion_position_scale, at_least(0),
       "crossmodal: what enters is multiplied by this before positions are added; 0 is "
       "sqrt(shared_width) (MulT)"},
      {"fusion_max_positions", &M::fusion_max_positions, between(1, 1 << 20),
       "crossmodal: rows of a learned positional table"},
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
      {"environments_from", &L::environments_from, one_of({"noise", "data", "inferred"}),
       "noise: the environments are the K + 1 variants of every sample; data: they are those of "
       "data.environment; inferred: two, by EIIL from a vanilla reference model, which is trained "
       "first and whose steps the progress does not count. In the latter two K is not used, irmv1, "
       "vrex and mmrex compare the model's own risks, mmd and coral the clean Z_inv"},
      {"invariance", &L::invariance,
       one_of({"l1", "mmd", "coral", "kl", "output_difference", "irmv1", "vrex", "mmrex"}),
       "l1: Eq. 4; mmd and coral: the distance of distributions in its place; the others "
       "compare outputs of unimodal predictors: kl and output_difference as in appendix H, "
       "irmv1, vrex and mmrex by their risks in the variants"},
      {"invariance_schedule", &L::invariance_schedule, one_of({"constant", "step", "linear"}),
       "how R_inv's weight comes from invariance_start lambda_invariance to lambda_invariance"},
      {"invariance_start", &L::invariance_start, at_least(0),
       "step, linear: the weight's factor at the beginning"},
      {"invariance_anneal_fraction", &L::invariance_anneal_fraction, between(0, 1),
       "step, linear: the part of all steps after which the factor is 1"},
      {"irm_unbiased",
       &L::irm_unbiased,
       {},
       "irmv1: the product over two halves of the samples, whose expectation is right"},
      {"mmrex_minimum_weight", &L::mmrex_minimum_weight, between(-100, 1),
       "mmrex: the least weight of an environment's risk, at most 1 / their number; 0: the "
       "worst risk alone"},
      {"lambda_unimodal", &L::lambda_unimodal, at_least(0),
       "open choice: weight of L_pred of the unimodal predictors"},
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
      {"decorrelation", &L::decorrelation,
       one_of({"correlation", "hsic", "club", "club_mean", "club_sample", "l1out", "variational",
               "infonce", "nwj", "mine"}),
       "R_dec. correlation: Eq. 6; hsic: kernels of width sqrt(d / 2); the others bound "
       "I(Z_inv; Z_spu) in nats, from above by a Gaussian q(Z_spu | Z_inv) (club, club_mean, "
       "club_sample, l1out, variational) or from below by a critic (infonce, nwj, mine), "
       "learnt beside the model"},
      {"estimator_learning_rate", &L::estimator_learning_rate, at_least(0),
       "of q or the critic, which have an AdamW of their own without decay or schedule"},
      {"estimator_steps", &L::estimator_steps, between(1, 1000),
       "steps of q or the critic for each of the model"},
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
      {"sufficiency", &L::sufficiency, one_of({"none", "input", "modalities", "soft_hgr"}),
       "what Z_inv is to share, by InfoNCE with X_m (input) or other modalities' Z_inv "
       "(modalities), or by soft-HGR with the latter"},
      {"lambda_sufficiency", &L::lambda_sufficiency, at_least(0), "weight of that"},
      {"sufficiency_temperature", &L::sufficiency_temperature, between(1e-4, 1e4),
       "of its cosine scores"},
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
      {"capture",
       &T::capture,
       {},
       "cuda, simt: record the step once per shape of batch (a CUDA graph) and replay it; the same "
       "bits"},
      {"precision", &T::precision, one_of({"f32", "tf32", "bf16"}),
       "of the matrix products' factors; sums, parameters, losses and all else are f32. tf32: on a "
       "GPU the factors of linear layers; bf16: those of linear layers, convolutions, attention "
       "and the scores over all pairs, on every device (docs/precision.md)"},
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

}  // namespace cmir::config_keys
