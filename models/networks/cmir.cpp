#include "models/networks/cmir.h"

#include <algorithm>

#include <fmt/ranges.h>

#include "autograd/arithmetic.h"
#include "autograd/dropout.h"
#include "autograd/elementwise.h"
#include "autograd/precision.h"
#include "autograd/rows.h"
#include "core/error.h"
#include "losses/coral.h"
#include "losses/decorrelation.h"
#include "losses/environments.h"
#include "losses/hsic.h"
#include "losses/info_nce.h"
#include "losses/invariance.h"
#include "losses/irm.h"
#include "losses/mmd.h"
#include "losses/prediction.h"
#include "losses/reconstruction.h"
#include "losses/rex.h"
#include "losses/soft_hgr.h"

namespace cmir {
namespace {

constexpr const char* kEstimatorPrefix = "estimator.";

/// Which terms of Eq. 9 beside L_pred a configuration has.
struct Terms {
  bool encoders, given, invariance, decorrelation, reconstruction, estimator;

  explicit Terms(const Config& config)
      : encoders(config.model.framework == "cmir"),
        given(config.loss.environments_from != "noise"),
        invariance(encoders && config.model.use_invariance && config.loss.lambda_invariance > 0 &&
                   (given || config.loss.environments > 0)),
        decorrelation(encoders && config.model.use_decorrelation &&
                      config.loss.lambda_decorrelation > 0),
        reconstruction(encoders && config.model.use_reconstruction &&
                       config.loss.lambda_reconstruction > 0),
        estimator(decorrelation && needs_estimator(config.loss.decorrelation)) {}
  bool spurious() const { return decorrelation || reconstruction; }
  /// Whether R_inv compares noisy variants, or else environments that the input names.
  bool variants() const { return invariance && !given; }
  bool given_environments() const { return invariance && given; }
};

Variable prediction_loss(const LossConfig& config, const Variable& prediction, const Tensor& labels,
                         losses::Reduction reduction = losses::Reduction::mean,
                         std::int64_t repeats = 1) {
  if (config.prediction == "mse") return losses::mse(prediction, labels, reduction, repeats);
  if (config.prediction == "mae") return losses::mae(prediction, labels, reduction, repeats);
  if (config.prediction == "bce")
    return losses::binary_cross_entropy_with_logits(prediction, labels, 1.0, reduction, repeats);
  return losses::cross_entropy(prediction, labels, reduction, repeats);
}

Variable irm_penalty(const LossConfig& config, const Variable& predictions, const Tensor& labels,
                     const losses::EnvironmentGroups& environments) {
  const losses::IrmOptions options{.unbiased = config.irm_unbiased};
  if (config.prediction == "mse")
    return losses::irm_mse(predictions, labels, environments, options);
  if (config.prediction == "mae")
    return losses::irm_mae(predictions, labels, environments, options);
  if (config.prediction == "bce")
    return losses::irm_binary_cross_entropy_with_logits(predictions, labels, environments, options);
  return losses::irm_cross_entropy(predictions, labels, environments, options);
}

bool compares_distributions(const std::string& invariance) {
  return invariance == "mmd" || invariance == "coral";
}

/// Whether R_inv in that form compares outputs of predictors; the others compare Z_inv.
bool compares_outputs(const std::string& invariance) {
  return invariance != "l1" && !compares_distributions(invariance);
}

/// Whether R_inv in that form compares risks, and so needs labels.
bool compares_risks(const std::string& invariance) {
  return invariance == "irmv1" || invariance == "vrex" || invariance == "mmrex";
}

/// Of the outputs of a unimodal predictor for all variants, where the labels are those of one; or
/// of the model's in given environments.
Variable risk_penalty(const LossConfig& config, const Variable& predictions, const Tensor& labels,
                      const losses::EnvironmentGroups& environments) {
  if (config.invariance == "irmv1") return irm_penalty(config, predictions, labels, environments);
  const Variable of_samples = prediction_loss(config, predictions, labels, losses::Reduction::none,
                                              predictions.shape()[0] / labels.size(0));
  if (config.invariance == "vrex") return losses::vrex(of_samples, environments);
  return losses::mmrex(of_samples, environments, config.mmrex_minimum_weight);
}

/// By mmd or coral, of Z_inv.
Variable distance_penalty(const LossConfig& config, const Variable& invariants,
                          const losses::EnvironmentGroups& environments) {
  return config.invariance == "mmd" ? losses::mmd(invariants, environments)
                                    : losses::coral(invariants, environments);
}

/// `compared`: Z_inv of all variants for l1, outputs of a unimodal predictor for the forms of
/// appendix H.
Variable invariance_loss(const LossConfig& config, const Variable& compared, int environments) {
  const bool over_batch = config.invariance_batch_reduction == "mean";
  const bool over_pairs = config.invariance_pair_reduction == "mean";
  if (config.invariance == "kl") {
    return losses::divergence(compared, environments,
                              {.symmetric = config.invariance_symmetric,
                               .mean_over_batch = over_batch,
                               .mean_over_pairs = over_pairs});
  }
  return losses::invariance(compared, environments,
                            {.mean_over_features = config.invariance_feature_reduction == "mean",
                             .mean_over_batch = over_batch,
                             .mean_over_pairs = over_pairs});
}

losses::DecorrelationOptions decorrelation_options(const LossConfig& config) {
  using Axis = losses::NormalisationAxis;
  using Scale = losses::DecorrelationScale;
  return {.alpha = config.decorrelation_alpha,
          .axis = config.decorrelation_axis == "sample" ? Axis::per_sample : Axis::per_feature,
          .unbiased_std = config.decorrelation_std == "unbiased",
          .epsilon = config.decorrelation_epsilon,
          .scale = config.decorrelation_scale == "width"   ? Scale::by_features
                   : config.decorrelation_scale == "batch" ? Scale::by_samples
                                                           : Scale::none};
}

losses::CorruptionKind corruption_kind(const std::string& name) {
  using Kind = losses::CorruptionKind;
  return name == "gaussian"  ? Kind::gaussian
         : name == "laplace" ? Kind::laplace
         : name == "erase"   ? Kind::erase
                             : Kind::laplace_or_erase;
}

bool corrupts(const NoiseConfig& noise, Mode mode) {
  return mode == Mode::training ? noise.train_kind != "none" && noise.train_rate > 0
                                : noise.test_kind != "none" && noise.test_rate > 0;
}

/// The corruption of X_m in section 5.4, or x itself.
Variable corrupted(const Variable& x, const NoiseConfig& noise, Mode mode,
                   const RandomStream& stream) {
  const std::string& kind = mode == Mode::training ? noise.train_kind : noise.test_kind;
  const double rate = mode == Mode::training ? noise.train_rate : noise.test_rate;
  if (!corrupts(noise, mode)) return x;
  return losses::corrupt(x, {corruption_kind(kind), rate, noise.laplace_scale}, stream);
}

const ModalityInfo& info_for(const std::vector<ModalityInfo>& data, const std::string& name) {
  std::vector<std::string> names;
  for (const ModalityInfo& info : data) {
    if (info.name == name) return info;
    names.push_back(info.name);
  }
  fail(ErrorKind::usage, "model", "the data set describes no modality '{}'; it has: {}", name,
       fmt::join(names, ", "));
}

}  // namespace

Encoder::Encoder(ParameterStore& store, const std::string& prefix, std::int64_t width,
                 std::int64_t hidden, bool with_spurious)
    : trunk0(store, prefix + ".trunk.0", width, hidden),
      trunk2(store, prefix + ".trunk.2", hidden, hidden),
      invariant(store, prefix + ".invariant", hidden, width) {
  if (with_spurious) spurious = Linear(store, prefix + ".spurious", hidden, width);
}
Variable Encoder::trunk(const Variable& x) const {
  return ops::mlp(x, {trunk0, trunk2}, Activation::relu);
}

Decoder::Decoder(ParameterStore& store, const std::string& prefix, std::int64_t width,
                 std::int64_t hidden)
    : layer0(store, prefix + ".0", 2 * width, hidden),
      layer2(store, prefix + ".2", hidden, hidden),
      layer4(store, prefix + ".4", hidden, width) {}
Variable Decoder::operator()(const Variable& invariant, const Variable& spurious) const {
  return ops::mlp(ops::concat({invariant, spurious}), {layer0, layer2, layer4});
}

Predictor::Predictor(ParameterStore& store, const std::string& prefix, std::int64_t in,
                     const ModelConfig& config)
    : dropout(config.dropout) {
  const std::int64_t hidden = config.hidden_width;
  const std::int64_t middle = config.predictor == "A" ? config.shared_width : hidden;
  layer0 = Linear(store, prefix + ".0", in, hidden);
  layer2 = Linear(store, prefix + ".2", hidden, middle);
  layer3 = Linear(store, prefix + ".3", middle, hidden);
  layer5 = Linear(store, prefix + ".5", hidden, config.outputs);
}
Variable Predictor::operator()(const Variable& x, DropoutSites& sites) const {
  const Variable fused = two_layers(layer0, layer2, x, sites.mask(dropout));
  return two_layers(layer3, layer5, fused, sites.mask(dropout));
}

Model::Model(const Config& config, const std::vector<ModalityInfo>& data, std::uint64_t seed,
             DType dtype)
    : config_(config), store_(seed, dtype, parse_device(config.training.device)) {
  validate(config_);
  const std::int64_t width = config_.model.shared_width;
  const std::int64_t hidden = config_.model.hidden_width;
  const Terms terms(config_);
  std::int64_t reaching = 0;
  std::vector<ModalityInfo> infos;
  for (ModalityConfig modality : config_.data.modalities) {
    if (modality.hidden_width == 0) modality.hidden_width = hidden;
    const std::string& name = modality.name;
    infos.push_back(info_for(data, name));
    Branch branch{.name = name,
                  .fuse_into = modality.fuse_into,
                  .network = {store_, "unimodal." + name, modality, infos.back(), width}};
    if (!modality.fuse_into.empty()) {
      branch.fuse = Linear(store_, "fusion." + name, 2 * width, width);
    } else {
      ++reaching;
      if (terms.encoders)
        branch.encoder = Encoder(store_, "encoder." + name, width, hidden, terms.spurious());
      if (terms.reconstruction) branch.decoder = Decoder(store_, "decoder." + name, width, hidden);
      if (terms.variants() && compares_outputs(config_.loss.invariance)) {
        branch.unimodal_predictor =
            Predictor(store_, "unimodal_predictor." + name, width, config_.model);
      }
      if (terms.estimator)
        branch.estimator = InformationEstimator(config_.loss.decorrelation, store_,
                                                kEstimatorPrefix + name, width, hidden);
    }
    branches_.push_back(std::move(branch));
  }
  if (config_.model.fusion == "crossmodal") fusion_.emplace(store_, config_.model, infos);
  predictor_ = Predictor(store_, "predictor", (fuses_after() ? fusion_->pairs() : reaching) * width,
                         config_.model);
}

bool Model::fuses_after() const { return fusion_ && config_.model.fusion_place == "after"; }

std::vector<std::string> Model::modalities() const {
  std::vector<std::string> names;
  for (const Branch& branch : branches_) {
    if (branch.fuse_into.empty()) names.push_back(branch.name);
  }
  return names;
}

bool Model::needs_environments() const { return Terms(config_).given_environments(); }

ModalityInput Model::input_of(std::size_t m, const ModelInput& input) const {
  const Branch& branch = branches_[m];
  const auto values = input.modalities.find(branch.name);
  require(values != input.modalities.end(), "model", "the input lacks the modality '{}'",
          branch.name);
  ModalityInput own = values->second;
  if (branch.network.needs_groups()) {
    require(input.groups.defined(), "model",
            "modality '{}' looks at its group's other samples, but the input names no groups",
            branch.name);
    own.offsets = input.groups;
  }
  return own;
}

std::vector<Variable> Model::unimodal(const ModelInput& input, Mode mode,
                                      const RandomStreams& streams,
                                      std::vector<TimeSteps>* steps) const {
  std::vector<Variable> x;
  std::vector<TimeSteps> over_time;  // where modalities attend to each other
  std::vector<DropoutMask> masks;
  for (std::size_t m = 0; m < branches_.size(); ++m) {
    DropoutSites sites(streams, m, mode == Mode::training);
    const UnimodalNetwork& network = branches_[m].network;
    if (fusion_) {
      over_time.push_back(network.steps(input_of(m, input), sites));
    } else {
      over_time.push_back({network(input_of(m, input), sites), {}});
    }
    require(over_time[m].samples() == over_time[0].samples(), "model",
            "modality '{}' has {} samples, '{}' has {}", branches_[m].name, over_time[m].samples(),
            branches_[0].name, over_time[0].samples());
    masks.push_back(sites.mask(config_.model.representation_dropout));
  }
  if (fusion_ && !fuses_after()) {
    DropoutSites sites = fusion_sites(mode, streams);
    x = fusion_->by_modality(over_time, sites);
  } else {
    for (const TimeSteps& of_modality : over_time) x.push_back(mean_over_time(of_modality));
  }
  const auto dropped = [&](std::size_t m, const Variable& v) {
    return masks[m].p > 0 ? ops::dropout(v, masks[m].p, masks[m].stream) : v;
  };
  const auto noisy = [&](std::size_t m, const Variable& v) {
    return corrupted(v, config_.noise, mode, streams.at(DrawPurpose::corruption, m));
  };
  for (std::size_t m = 0; m < branches_.size(); ++m) {
    x[m] = dropped(m, x[m]);
    if (steps == nullptr) continue;
    const bool changes = masks[m].p > 0 || corrupts(config_.noise, mode);
    steps->push_back(!changes ? over_time[m]
                              : fusion_->changed_alike(over_time[m], [&](const Variable& v) {
                                  return noisy(m, dropped(m, v));
                                }));
  }
  fuse_into_others(x);
  for (std::size_t m = 0; m < branches_.size(); ++m) x[m] = noisy(m, x[m]);
  return x;
}

void Model::fuse_into_others(std::vector<Variable>& x) const {  // Eq. 13
  for (std::size_t m = 0; m < branches_.size(); ++m) {
    if (!branches_[m].fuse) continue;
    const auto target =
        std::ranges::find(branches_, branches_[m].fuse_into, &Branch::name) - branches_.begin();
    x[target] = (*branches_[m].fuse)(ops::concat({x[target], x[m]}));
  }
}

DropoutSites Model::fusion_sites(Mode mode, const RandomStreams& streams) const {
  return {streams, branches_.size() + 1, mode == Mode::training};  // the predictor's come before
}

Variable Model::fuse_after(std::vector<TimeSteps> steps, DropoutSites sites) const {
  for (std::size_t m = 0; m < branches_.size(); ++m) {
    const auto& encoder = branches_[m].encoder;
    if (encoder) steps[m].rows = encoder->invariant(encoder->trunk(steps[m].rows));
  }
  return ops::concat((*fusion_)(steps, sites));
}

ForwardOutput Model::forward(const ModelInput& input, Mode mode,
                             const RandomStreams& streams) const {
  const PrecisionScope precision(parse_precision(config_.training.precision));
  std::optional<NoGradScope> no_grad;
  if (mode == Mode::inference) no_grad.emplace();
  const bool with_losses = mode == Mode::training && input.labels.defined();
  const bool given = with_losses && needs_environments();
  require(!given || input.environments.offsets.defined(), "model",
          "loss.environments_from = \"{}\", but the input names no environments",
          config_.loss.environments_from);
  std::vector<TimeSteps> steps;
  const std::vector<Variable> x = unimodal(input, mode, streams, fuses_after() ? &steps : nullptr);

  ForwardOutput output;
  // Z_m^inv, or X_m in the vanilla framework: what the predictor sees, but for fusion after them.
  std::vector<Variable> reaching;
  for (std::size_t m = 0; m < branches_.size(); ++m) {
    if (branches_[m].fuse || (fuses_after() && !with_losses)) continue;
    reaching.push_back(branches_[m].encoder
                           ? encode(m, x[m], with_losses ? &input : nullptr, streams, output)
                           : x[m]);
  }
  DropoutSites sites(streams, branches_.size(), mode == Mode::training);
  const Variable joint = fuses_after()          ? fuse_after(steps, fusion_sites(mode, streams))
                         : reaching.size() == 1 ? reaching[0]
                                                : ops::concat(reaching);
  output.prediction = (*predictor_)(joint, sites);
  if (input.labels.defined()) {
    output.losses.prediction = prediction_loss(config_.loss, output.prediction, input.labels);
    if (given && compares_risks(config_.loss.invariance))
      output.losses.model_invariance =
          risk_penalty(config_.loss, output.prediction, input.labels, input.environments);
    if (with_losses) {
      output.losses.sufficiency = sufficiency(reaching, x);
      add_up(input.invariance_factor, output.losses);
    }
    output.losses.estimator = estimator_losses(output.estimator_samples);
  }
  return output;
}

void Model::check_values(const ModelInput& input) const {
  for (const Branch& branch : branches_) {
    const auto values = input.modalities.find(branch.name);
    if (values != input.modalities.end()) branch.network.check_values(values->second);
  }
  if (!input.labels.defined()) return;
  if (config_.loss.prediction == "bce") losses::check_probabilities(input.labels);
  if (config_.loss.prediction == "cross_entropy")
    losses::check_classes(input.labels, config_.model.outputs);
}

Variable Model::encode(std::size_t m, const Variable& x, const ModelInput* training,
                       const RandomStreams& streams, ForwardOutput& output) const {
  LossTerms& losses = output.losses;
  const Branch& branch = branches_[m];
  const LossConfig& loss = config_.loss;
  const Terms terms(config_);
  const std::int64_t samples = x.shape()[0];
  const int environments =
      training != nullptr && terms.variants() ? static_cast<int>(loss.environments) : 0;

  // One pass over all K + 1 variants; the clean one is the first block of rows.
  const Variable variants = environments == 0
                                ? x
                                : losses::noise_variants(x, environments, loss.noise_intensity,
                                                         streams.at(DrawPurpose::environments, m));
  const Variable trunk = branch.encoder->trunk(variants);
  const Variable invariants = branch.encoder->invariant(trunk);
  const auto clean_rows = [&](const Variable& rows) {
    return environments == 0 ? rows : ops::slice_rows(rows, 0, samples);
  };
  const Variable invariant = clean_rows(invariants);
  if (training == nullptr) return invariant;

  if (terms.given_environments() && !compares_risks(loss.invariance))
    losses.invariance.push_back(distance_penalty(loss, invariant, training->environments));
  if (environments > 0) {
    Variable compared = invariants;
    if (branch.unimodal_predictor) {
      DropoutSites none(streams, m, false);  // outputs differ by the environment alone
      compared = (*branch.unimodal_predictor)(invariants, none);
      losses.unimodal.push_back(prediction_loss(loss, clean_rows(compared), training->labels));
    }
    const auto groups = [&]() -> const losses::EnvironmentGroups& {
      return variant_groups(environments, samples);
    };
    losses.invariance.push_back(
        compares_risks(loss.invariance) ? risk_penalty(loss, compared, training->labels, groups())
        : compares_distributions(loss.invariance) ? distance_penalty(loss, compared, groups())
                                                  : invariance_loss(loss, compared, environments));
  }
  if (!terms.spurious()) return invariant;
  const Variable spurious = branch.encoder->spurious(clean_rows(trunk));
  if (terms.decorrelation) {
    losses.decorrelation.push_back(decorrelation_loss(m, invariant, spurious, streams));
    if (branch.estimator)
      output.estimator_samples.push_back({m, invariant.detach(), spurious.detach()});
  }
  if (terms.reconstruction) {
    losses.reconstruction.push_back(
        losses::reconstruction(x, (*branch.decoder)(invariant, spurious),
                               {.mean_over_features = loss.reconstruction_reduction == "mean",
                                .stop_gradient = loss.reconstruction_stop_gradient}));
  }
  return invariant;
}

const losses::EnvironmentGroups& Model::variant_groups(std::int64_t environments,
                                                       std::int64_t samples) const {
  const auto [place, made] = variant_groups_.try_emplace(samples);
  if (made) {
    place->second = losses::EnvironmentGroups::blocks(environments, samples);
    place->second.prepare(device());
  }
  return place->second;
}

Variable Model::decorrelation_loss(std::size_t m, const Variable& invariant,
                                   const Variable& spurious, const RandomStreams& streams) const {
  if (config_.loss.decorrelation == "hsic") {
    const double gamma = 1 / static_cast<double>(invariant.shape().width());
    return losses::hsic(invariant, spurious, {.gamma_x = gamma, .gamma_y = gamma});
  }
  const auto& estimator = branches_[m].estimator;
  if (!estimator)
    return losses::decorrelation(invariant, spurious, decorrelation_options(config_.loss));
  // No bound knows that mutual information is not negative: without this the model would lower
  // one without end.
  return ops::relu(estimator->bound(invariant, spurious, streams.at(DrawPurpose::negatives, m)));
}

std::vector<Variable> Model::estimator_losses(const std::vector<EstimatorSample>& samples) const {
  const PrecisionScope precision(parse_precision(config_.training.precision));
  std::vector<Variable> losses;
  for (const EstimatorSample& sample : samples) {
    losses.push_back(branches_[sample.branch].estimator->loss(sample.invariant, sample.spurious));
  }
  return losses;
}

ParameterList Model::parameters_of(Owner owner) const {
  ParameterList parameters;
  for (const Parameter& p : store_.list()) {
    if (p.name.starts_with(kEstimatorPrefix) == (owner == Owner::estimator))
      parameters.push_back(p);
  }
  return parameters;
}

std::vector<Variable> Model::sufficiency(const std::vector<Variable>& invariants,
                                         const std::vector<Variable>& inputs) const {
  const LossConfig& loss = config_.loss;
  if (!Terms(config_).encoders || loss.sufficiency == "none") return {};
  const auto info_nce = [&](const Variable& a, const Variable& b, bool symmetric) {
    return losses::info_nce(
        a, b,
        {.scores = {.critic = losses::Critic::cosine, .temperature = loss.sufficiency_temperature},
         .symmetric = symmetric});
  };
  std::vector<Variable> terms;
  if (loss.sufficiency == "input") {
    for (std::size_t m = 0, branch = 0; m < invariants.size(); ++m, ++branch) {
      while (branches_[branch].fuse) ++branch;  // fused into another: among the inputs only
      terms.push_back(info_nce(invariants[m], inputs[branch].detach(), false));
    }
    return terms;
  }
  for (std::size_t m = 0; m + 1 < invariants.size(); ++m) {
    std::vector<Variable> pairs;
    for (std::size_t k = m + 1; k < invariants.size(); ++k) {
      pairs.push_back(loss.sufficiency == "soft_hgr"
                          ? ops::scale(losses::soft_hgr(invariants[m], invariants[k]), -1)
                          : info_nce(invariants[m], invariants[k], true));
    }
    terms.push_back(ops::sum_of(pairs));
  }
  return terms;
}

void Model::add_up(const Tensor& invariance_factor, LossTerms& losses) const {
  std::vector<Variable> terms = {losses.prediction};
  std::vector<double> weights = {1.0};
  const auto add = [&](const std::vector<Variable>& of_modalities, double weight) {
    for (const Variable& term : of_modalities) {
      terms.push_back(term);
      weights.push_back(weight);
    }
  };
  std::vector<Variable> invariance = losses.invariance;
  if (losses.model_invariance.defined()) invariance.push_back(losses.model_invariance);
  for (Variable& term : invariance) {
    if (!invariance_factor.defined()) break;
    term = ops::multiply(term, Variable(invariance_factor.to(term.dtype()).on(device())));
  }
  add(invariance, config_.loss.lambda_invariance);
  add(losses.decorrelation, config_.loss.lambda_decorrelation);
  add(losses.reconstruction, config_.loss.lambda_reconstruction);
  add(losses.unimodal, config_.loss.lambda_unimodal);
  add(losses.sufficiency, config_.loss.lambda_sufficiency);
  losses.total = ops::weighted_sum(terms, weights);
}

std::vector<Representation> Model::representations(const ModelInput& input,
                                                   const RandomStreams& streams,
                                                   int environment) const {
  const PrecisionScope precision(parse_precision(config_.training.precision));
  const NoGradScope no_grad;
  std::vector<Variable> x = unimodal(input, Mode::inference, streams);
  std::vector<Representation> all;
  for (std::size_t m = 0; m < branches_.size(); ++m) {
    if (branches_[m].fuse) continue;
    if (environment > 0) {
      const std::int64_t samples = x[m].shape()[0];
      const Variable variants =
          losses::noise_variants(x[m], environment, config_.loss.noise_intensity,
                                 streams.at(DrawPurpose::environments, m));
      x[m] = ops::slice_rows(variants, environment * samples, (environment + 1) * samples);
    }
    Representation representation{.modality = branches_[m].name, .unimodal = x[m]};
    if (const auto& encoder = branches_[m].encoder) {
      const Variable trunk = encoder->trunk(x[m]);
      representation.invariant = encoder->invariant(trunk);
      if (encoder->spurious.weight.defined()) representation.spurious = encoder->spurious(trunk);
    }
    all.push_back(std::move(representation));
  }
  return all;
}

}  // namespace cmir
