// R_dec by a learnt bound of mutual information: who trains what, and that q learns.
#include "models/networks/estimator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "models/networks/batch_input.h"
#include "models/training/prepare.h"
#include "models/training/trainer.h"
#include "tests/models/small_run.h"

namespace cmir {
namespace {

Config club_config(const std::string& form) {
  Config config = small_config();
  config.loss.decorrelation = form;
  config.training.checkpoint = "last";
  return config;
}

class EstimatorTest : public ::testing::TestWithParam<const char*> {
 protected:
  EstimatorTest()
      : config_(club_config(GetParam())),
        data_(prepare_data(config_, small_dataset())),
        model_(config_, data_.modalities, 1) {}

  ForwardOutput forward() const {
    const std::vector<std::int64_t> samples = {0, 1, 2, 3, 4, 5, 6};
    return model_.forward(model_input(config_, gather(data_.dataset, data_.fields, samples)),
                          Mode::training, {.seed = 1});
  }
  /// The names of the parameters of one owner that have a gradient.
  std::vector<std::string> with_gradient(Model::Owner owner) const {
    std::vector<std::string> names;
    for (const Parameter& p : model_.parameters_of(owner)) {
      if (p.variable.gradient().defined()) names.push_back(p.name);
    }
    return names;
  }

  const Config config_;
  const PreparedData data_;
  const Model model_;
};

TEST_P(EstimatorTest, EachLossTrainsItsOwnParametersOnly) {
  using Owner = Model::Owner;
  const std::size_t owned = model_.parameters_of(Owner::estimator).size(),
                    others = model_.parameters_of(Owner::model).size();
  const std::size_t states = GetParam() == std::string("mine") ? 2 : 0;  // moving averages
  const bool critic = config_.loss.decorrelation == "infonce" ||
                      config_.loss.decorrelation == "nwj" || config_.loss.decorrelation == "mine";
  // Two modalities, two networks each, two layers each; and a critic's scale.
  EXPECT_EQ(owned, 16 + (critic ? 2 : 0) + states);
  EXPECT_EQ(owned + others, model_.named_parameters().size());
  {
    const ForwardOutput output = forward();
    ASSERT_EQ(output.losses.estimator.size(), 2U);
    backward(output.losses.estimator[0]);
    backward(output.losses.estimator[1]);
    EXPECT_EQ(with_gradient(Owner::estimator).size(), owned - states);
    EXPECT_THAT(with_gradient(Owner::model), ::testing::IsEmpty());
  }
  for (Parameter p : model_.named_parameters()) p.variable.clear_gradient();
  const ForwardOutput output = forward();
  backward(output.losses.decorrelation[0]);
  EXPECT_THAT(with_gradient(Owner::estimator), ::testing::IsEmpty());
  EXPECT_THAT(with_gradient(Owner::model), ::testing::Contains("encoder.text.invariant.weight"));
  if (GetParam() != std::string("variational")) {
    EXPECT_THAT(with_gradient(Owner::model), ::testing::Contains("encoder.text.spurious.weight"));
  }
}

double last_likelihood_loss(Config config, const PreparedData& data, std::int64_t steps) {
  config.loss.estimator_steps = steps;
  config.loss.estimator_learning_rate = 0.003;
  config.training.epochs = 15;
  const auto history = train(config, data, 1).state.history;
  EXPECT_LT(history.back().train.at("estimator.text"), history.front().train.at("estimator.text"));
  for (const EpochRecord& epoch : history) EXPECT_GE(epoch.train.at("decorrelation.text"), 0);
  return history.back().train.at("estimator.text");
}

/// The last batch of an epoch may be of one.
TEST_P(EstimatorTest, TakesABatchOfOneSample) {
  const std::vector<std::int64_t> one = {3};
  const ForwardOutput output = model_.forward(
      model_input(config_, gather(data_.dataset, data_.fields, one)), Mode::training, {.seed = 1});
  backward(output.losses.total);
  ASSERT_EQ(output.losses.estimator.size(), 2U);
  backward(output.losses.estimator[0]);
  for (const Variable& loss : output.losses.estimator)
    EXPECT_TRUE(std::isfinite(loss.value().item()));
  for (const Variable& loss : output.losses.decorrelation) EXPECT_GE(loss.value().item(), 0);
}

TEST_P(EstimatorTest, LearnsAndLearnsMoreInMoreSteps) {
  EXPECT_LT(last_likelihood_loss(config_, data_, 5), last_likelihood_loss(config_, data_, 1));
}

INSTANTIATE_TEST_SUITE_P(Forms, EstimatorTest,
                         ::testing::Values("club", "club_mean", "club_sample", "l1out",
                                           "variational", "infonce", "nwj", "mine"),
                         [](const auto& form) { return form.param; });

TEST(Estimator, IsThereOnlyWhereItsBoundIs) {
  for (const auto& [form, lambda] : {std::pair{"correlation", 0.1}, {"club", 0.0}}) {
    Config config = club_config(form);
    config.loss.lambda_decorrelation = lambda;
    const PreparedData data = prepare_data(config, small_dataset());
    const Model model(config, data.modalities, 1);
    EXPECT_TRUE(model.parameters_of(Model::Owner::estimator).empty()) << form;
  }
}

}  // namespace
}  // namespace cmir
