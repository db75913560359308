// CmIR's terms in the forms that are ours, each against its loss called by itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "losses/coral.h"
#include "losses/hsic.h"
#include "losses/info_nce.h"
#include "losses/irm.h"
#include "losses/mmd.h"
#include "losses/prediction.h"
#include "losses/rex.h"
#include "losses/soft_hgr.h"
#include "tests/message_of.h"
#include "tests/models/tiny_model.h"

namespace cmir {
namespace {

using ::testing::HasSubstr;

TEST(CmirForms, AppendixHComparesOutputsAndFitsItsPredictors) {
  Config config = tiny_config();
  config.loss.invariance = "output_difference";
  const Model model = tiny_model(config);
  EXPECT_TRUE(has_parameter(model, "unimodal_predictor.audio.5.weight"));
  const auto losses = model.forward(tiny_input(regression_labels()), Mode::training, {}).losses;
  EXPECT_EQ(losses.invariance.size(), 3U);
  EXPECT_EQ(losses.unimodal.size(), 3U);
  config.data.task = "binary";
  config.loss.prediction = "bce";
  config.loss.invariance = "kl";
  const auto binary =
      tiny_model(config)
          .forward(tiny_input(Tensor::from<double>({1, 0, 1}, {3})), Mode::training, {})
          .losses;
  EXPECT_TRUE(std::isfinite(binary.total.value().item()));
}

TEST(CmirForms, KeepsWhatItsInvariantPartsShare) {
  Config config = tiny_config();
  config.loss.environments = 0;
  const ModelInput input = tiny_input(regression_labels());
  config.loss.sufficiency_temperature = 0.5;
  for (const std::string form : {"input", "modalities", "soft_hgr"}) {
    config.loss.sufficiency = form;
    const Model model = tiny_model(config);
    const auto parts = model.representations(input, {});
    const auto shared = [&](const Variable& a, const Variable& b) {
      const losses::CriticOptions scores{.critic = losses::Critic::cosine, .temperature = 0.5};
      return form == "soft_hgr"
                 ? -losses::soft_hgr(a, b).value().item()
                 : losses::info_nce(a, b, {.scores = scores, .symmetric = form == "modalities"})
                       .value()
                       .item();
    };
    const auto z = [&](std::size_t m) { return parts[m].invariant; };
    const double expected =
        form == "input" ? shared(z(0), parts[0].unimodal) : shared(z(0), z(1)) + shared(z(0), z(2));
    const auto losses = model.forward(input, Mode::training, {}).losses;
    ASSERT_EQ(losses.sufficiency.size(), form == "input" ? 3U : 2U);
    EXPECT_NEAR(losses.sufficiency[0].value().item(), expected, 1e-10) << form;
  }
}

TEST(CmirForms, TheFactorOfAStepWeighsTheInvarianceTerms) {
  const Model model = tiny_model(tiny_config());
  ModelInput input = tiny_input(regression_labels());
  const auto whole = model.forward(input, Mode::training, {}).losses;
  input.invariance_factor = Tensor::full({}, 0.25);
  const auto quarter = model.forward(input, Mode::training, {}).losses;
  double sum = 0;
  for (const Variable& term : whole.invariance) sum += term.value().item();
  EXPECT_GT(sum, 0);
  EXPECT_NEAR(whole.total.value().item() - quarter.total.value().item(),
              0.75 * model.config().loss.lambda_invariance * sum, 1e-10);
}

TEST(CmirForms, ComparesTheDistributionsOfItsVariants) {
  for (const char* form : {"mmd", "coral"}) {
    Config config = tiny_config();
    config.loss.invariance = form;
    config.loss.noise_intensity = 0;
    const ModelInput input = tiny_input(regression_labels());
    const Model equal = tiny_model(config);
    EXPECT_FALSE(has_parameter(equal, "unimodal_predictor.audio.5.weight"));
    EXPECT_NEAR(equal.forward(input, Mode::training, {}).losses.invariance[0].value().item(), 0,
                1e-12);
    config.loss.noise_intensity = 1;
    const Model apart = tiny_model(config);
    const auto losses = apart.forward(input, Mode::training, {.seed = 4}).losses;
    EXPECT_GT(losses.invariance[0].value().item(), 1e-6) << form;
    backward(losses.invariance[0]);
    for (const Parameter& p : apart.named_parameters()) {
      if (p.name == "encoder.text.invariant.weight") {
        EXPECT_TRUE(p.variable.gradient().defined()) << form;
      }
    }
  }
}

TEST(CmirForms, DecorrelatesByAnIndependenceCriterion) {
  Config config = tiny_config();
  config.loss.environments = 0;
  config.loss.decorrelation = "hsic";
  const Model model = tiny_model(config);
  EXPECT_TRUE(model.parameters_of(Model::Owner::estimator).empty());
  const ModelInput input = tiny_input(regression_labels());
  const auto part = model.representations(input, {})[1];
  const double gamma = 1.0 / static_cast<double>(part.invariant.shape().width());
  EXPECT_NEAR(model.forward(input, Mode::training, {}).losses.decorrelation[1].value().item(),
              losses::hsic(part.invariant, part.spurious, {.gamma_x = gamma, .gamma_y = gamma})
                  .value()
                  .item(),
              1e-12);
}

/// Where the variants are equal so are their risks; where they are not, a gradient reaches g_m.
TEST(CmirForms, ComparesTheRisksOfItsUnimodalPredictors) {
  for (const char* form : {"irmv1", "vrex", "mmrex"}) {
    for (const char* prediction : {"mse", "mae", "bce"}) {
      Config config = tiny_config();
      config.loss.invariance = form;
      config.loss.prediction = prediction;
      config.data.task = prediction == std::string("bce") ? "binary" : "regression";
      config.loss.noise_intensity = 0;
      const ModelInput input = tiny_input(Tensor::from<double>({1, 0, 1}, {3}));
      const auto equal = tiny_model(config).forward(input, Mode::training, {}).losses;
      ASSERT_EQ(equal.invariance.size(), 3U) << form;
      const double penalty = equal.invariance[0].value().item(),
                   risk = equal.unimodal[0].value().item();
      if (form != std::string("irmv1")) {
        EXPECT_NEAR(penalty, form == std::string("vrex") ? 0 : risk, 1e-12) << prediction;
      }

      config.loss.noise_intensity = 1;
      const Model model = tiny_model(config);
      const auto apart = model.forward(input, Mode::training, {.seed = 4}).losses;
      EXPECT_NE(apart.invariance[0].value().item(), penalty) << form << prediction;
      backward(apart.invariance[0]);
      for (const Parameter& p : model.named_parameters()) {
        if (p.name == "encoder.text.invariant.weight" ||
            p.name == "unimodal_predictor.text.5.bias") {
          EXPECT_TRUE(p.variable.gradient().defined()) << form << prediction << p.name;
        }
      }
    }
  }
}

losses::EnvironmentGroups two_environments() {
  return losses::EnvironmentGroups::by_labels(Tensor::from<std::int32_t>({1, 0, 1}, {3}), 2);
}
Config with_given_environments(const std::string& form) {
  Config config = tiny_config();
  config.data.environment = "speaker";
  config.loss.environments_from = "data";
  config.loss.environments = 0;  // K is not used
  config.loss.invariance = form;
  return config;
}

/// One term of the whole model, of its own predictions, and no unimodal predictors.
TEST(CmirForms, ComparesItsRisksInGivenEnvironments) {
  ModelInput input = tiny_input(regression_labels());
  input.environments = two_environments();
  for (const std::string form : {"irmv1", "vrex", "mmrex"}) {
    const Model model = tiny_model(with_given_environments(form));
    EXPECT_FALSE(has_parameter(model, "unimodal_predictor.audio.5.weight"));
    const auto out = model.forward(input, Mode::training, {});
    EXPECT_TRUE(out.losses.invariance.empty());
    EXPECT_TRUE(out.losses.unimodal.empty());
    const Variable risks = losses::mse(out.prediction, input.labels, losses::Reduction::none);
    const Variable expected =
        form == "irmv1"  ? losses::irm_mse(out.prediction, input.labels, input.environments)
        : form == "vrex" ? losses::vrex(risks, input.environments)
                         : losses::mmrex(risks, input.environments, 0);
    EXPECT_EQ(out.losses.model_invariance.value().item(), expected.value().item()) << form;
    double others = out.losses.prediction.value().item();
    for (const Variable& term : out.losses.decorrelation) others += 0.02 * term.value().item();
    for (const Variable& term : out.losses.reconstruction) others += 0.05 * term.value().item();
    EXPECT_NEAR(out.losses.total.value().item(), others + 0.1 * expected.value().item(), 1e-12);
    expect_right_gradients(model.config(), input);
  }
}

TEST(CmirForms, ComparesItsRepresentationsInGivenEnvironments) {
  ModelInput input = tiny_input(regression_labels());
  input.environments = two_environments();
  for (const std::string form : {"mmd", "coral"}) {
    const Model model = tiny_model(with_given_environments(form));
    const auto losses = model.forward(input, Mode::training, {}).losses;
    ASSERT_EQ(losses.invariance.size(), 3U);
    EXPECT_FALSE(losses.model_invariance.defined());
    const Variable z = model.representations(input, {})[1].invariant;
    EXPECT_NEAR(
        losses.invariance[1].value().item(),
        (form == "mmd" ? losses::mmd(z, input.environments) : losses::coral(z, input.environments))
            .value()
            .item(),
        1e-12)
        << form;
    EXPECT_GT(losses.invariance[1].value().item(), 1e-6);
    expect_right_gradients(model.config(), input);
  }
}

TEST(CmirForms, NeedsTheEnvironmentsThatItsConfigurationNames) {
  const Model model = tiny_model(with_given_environments("vrex"));
  const ModelInput input = tiny_input(regression_labels());
  EXPECT_THAT(message_of([&] { model.forward(input, Mode::training, {}); }),
              HasSubstr("the input names no environments"));
  EXPECT_NO_THROW(model.forward(input, Mode::inference, {}));
  Config without = model.config();
  without.model.use_invariance = false;
  EXPECT_NO_THROW(tiny_model(without).forward(input, Mode::training, {}));
}

}  // namespace
}  // namespace cmir
