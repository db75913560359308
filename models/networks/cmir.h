// CmIR (sections 2 and 3 of the method): unimodal networks, encoders g_m, decoders r_m, predictor h
// and the losses; the vanilla framework and the ablations are the same model with parts left out.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "losses/environment_groups.h"
#include "models/config.h"
#include "models/networks/crossmodal.h"
#include "models/networks/estimator.h"
#include "models/networks/input.h"
#include "models/networks/module.h"
#include "models/networks/unimodal.h"

namespace cmir {

/// Terms of Eq. 9, each a scalar; an ablated or disabled term is an undefined Variable. Vectors
/// have one entry per modality, before their weights; `total` is weighted and is what backward()
/// starts from.
struct LossTerms {
  Variable prediction;
  std::vector<Variable> invariance;
  Variable model_invariance;  ///< of the model's risks in given environments, in place of those
  std::vector<Variable> decorrelation;
  std::vector<Variable> reconstruction;
  std::vector<Variable>
      unimodal;  ///< L_pred of the unimodal predictors, which ties them to the task
  std::vector<Variable> sufficiency;  ///< of pairs of modalities: none for the last one
  std::vector<Variable> estimator;    ///< what q or the critic of R_dec minimises; not in `total`,
                                      ///< and shares no gradient with it
  Variable total;
};

/// What q, or the critic, of one modality learns from.
struct EstimatorSample {
  std::size_t branch;
  Variable invariant, spurious;  ///< [samples, d]
};

struct ForwardOutput {
  Variable prediction;  ///< [samples, outputs]: regression values or logits
  LossTerms losses;     ///< all terms in training; in inference only `prediction`; all undefined
                        ///< without labels
  std::vector<EstimatorSample> estimator_samples;  ///< in training, where R_dec needs a q
};

/// What each modality's networks make of the clean input; [samples, d] each.
struct Representation {
  std::string modality;
  Variable unimodal;   ///< X_m
  Variable invariant;  ///< Z_m^inv; undefined in the vanilla framework
  Variable spurious;   ///< Z_m^spu; undefined too where both R_dec and R_rec are ablated
};

/// training: corruption [noise].train, K noisy variants, dropout, every loss. inference: corruption
/// [noise].test, clean variant only; records no graph.
enum class Mode { training, inference };

/// g_m: FC(d, d'), ReLU, FC(d', d'), ReLU, and two heads FC(d', d).
struct Encoder {
  Linear trunk0, trunk2, invariant, spurious;

  Encoder(ParameterStore& store, const std::string& prefix, std::int64_t width, std::int64_t hidden,
          bool with_spurious);
  /// The trunk's output [rows, d'].
  Variable trunk(const Variable& x) const;
};

/// r_m: concat(Z_inv, Z_spu), FC(2d, d'), ReLU, FC(d', d'), ReLU, FC(d', d).
struct Decoder {
  Linear layer0, layer2, layer4;

  Decoder(ParameterStore& store, const std::string& prefix, std::int64_t width,
          std::int64_t hidden);
  Variable operator()(const Variable& invariant, const Variable& spurious) const;
};

/// h, in either reading of Fig. 7. A: FC(in, d'), ReLU, FC(d', d), FC(d, d'), ReLU, FC(d',
/// outputs). B: the same with d' for d.
struct Predictor {
  Linear layer0, layer2, layer3, layer5;
  double dropout = 0;

  Predictor(ParameterStore& store, const std::string& prefix, std::int64_t in,
            const ModelConfig& config);
  Variable operator()(const Variable& x, DropoutSites& sites) const;
};

class Model {
 public:
  /// `data` describes the modalities that `config.data.modalities` names. All random initial values
  /// follow from `seed`. The parameters are on config.training.device.
  Model(const Config& config, const std::vector<ModalityInfo>& data, std::uint64_t seed,
        DType dtype = DType::f32);

  /// A modality that is missing or does not fit its description is an Error that names it.
  /// Modalities that the model does not use are ignored. The input is on device(), see
  /// ModelInput::to. `streams` fixes every random number of the
  /// pass.
  ForwardOutput forward(const ModelInput& input, Mode mode, const RandomStreams& streams) const;
  /// LossTerms::estimator of these samples and the parameters as they are now.
  std::vector<Variable> estimator_losses(const std::vector<EstimatorSample>& samples) const;
  /// The Errors of forward() that depend on values and not on shapes: tokens and labels out of
  /// their range. For inputs of recorded passes, in which nothing on the host looks at values.
  void check_values(const ModelInput& input) const;
  /// Z of the inference input (with the [noise].test corruption) in one virtual environment (0: no
  /// environment noise), for probing and pictures. Records no graph.
  std::vector<Representation> representations(const ModelInput& input, const RandomStreams& streams,
                                              int environment = 0) const;

  const ParameterList& named_parameters() const { return store_.list(); }
  /// Those that LossTerms::total trains, or those that LossTerms::estimator trains.
  enum class Owner { model, estimator };
  ParameterList parameters_of(Owner owner) const;
  void load_parameters(const std::map<std::string, Tensor>& values) {
    cmir::load_parameters(store_.list(), values);
  }
  /// The names of the M modalities that reach the predictor, in order (those fused into another are
  /// not among them).
  std::vector<std::string> modalities() const;
  const Config& config() const { return config_; }
  /// Whether training needs ModelInput::environments.
  bool needs_environments() const;
  Device device() const { return predictor_->layer0.weight.device(); }
  /// Sweeps of the noise protocol change only this: rates and kinds, no parameters.
  void set_noise(const NoiseConfig& noise) { config_.noise = noise; }

 private:
  struct Branch {  // one modality; the parts that the configuration leaves out are empty
    std::string name;
    std::string fuse_into;
    UnimodalNetwork network;
    std::optional<Linear> fuse;  // of concat(X_target, X_this)
    std::optional<Encoder> encoder;
    std::optional<Decoder> decoder;
    std::optional<Predictor>
        unimodal_predictor;  // for forms of R_inv that compare outputs or risks
    std::optional<InformationEstimator> estimator;
  };

  /// X_m of every branch, fused and corrupted; with `steps`, which fusion after disentanglement
  /// needs, also what X_m is the mean of.
  std::vector<Variable> unimodal(const ModelInput& input, Mode mode, const RandomStreams& streams,
                                 std::vector<TimeSteps>* steps = nullptr) const;
  /// The input as the network of branch m wants it.
  ModalityInput input_of(std::size_t m, const ModelInput& input) const;
  void fuse_into_others(std::vector<Variable>& x) const;
  bool fuses_after() const;
  DropoutSites fusion_sites(Mode mode, const RandomStreams& streams) const;
  /// Z_m^inv of every time step (X_m in the vanilla framework), fused: what the predictor sees.
  Variable fuse_after(std::vector<TimeSteps> steps, DropoutSites sites) const;
  /// The clean Z_m^inv of branch m; in training (not null) also appends the branch's loss terms.
  Variable encode(std::size_t m, const Variable& x, const ModelInput* training,
                  const RandomStreams& streams, ForwardOutput& output) const;
  Variable decorrelation_loss(std::size_t m, const Variable& invariant, const Variable& spurious,
                              const RandomStreams& streams) const;
  /// The blocks of noise_variants() as environments; a graph that was recorded with them may be
  /// replayed as long as the model lives.
  const losses::EnvironmentGroups& variant_groups(std::int64_t environments,
                                                  std::int64_t samples) const;
  /// What loss.sufficiency names: InfoNCE of each modality's Z_inv with its X_m (a constant), or
  /// over the pairs of modalities InfoNCE or minus soft-HGR of their Z_inv, each with the later
  /// ones.
  std::vector<Variable> sufficiency(const std::vector<Variable>& invariants,
                                    const std::vector<Variable>& inputs) const;
  void add_up(const Tensor& invariance_factor, LossTerms& losses) const;

  Config config_;
  ParameterStore store_;
  std::vector<Branch> branches_;
  std::optional<CrossmodalFusion> fusion_;
  std::optional<Predictor> predictor_;
  mutable std::map<std::int64_t, losses::EnvironmentGroups> variant_groups_;  // by samples
};

}  // namespace cmir
