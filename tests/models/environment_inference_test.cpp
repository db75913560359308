#include "models/training/environment_inference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"
#include "core/philox.h"
#include "tests/message_of.h"
#include "tests/models/small_run.h"

namespace cmir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::size_t kSamples = 500;
constexpr RandomStream kRandom{.seed = 11};

/// A reference model that reads the label off a colour, which is right in 85 % of the samples: the
/// environments are where it is right and where it is wrong.
TEST(InferEnvironments, RecoversASpuriousSplit) {
  LossConfig config;
  Predictions binary, classes;
  std::vector<std::int32_t> wrong;
  for (std::size_t i = 0; i < kSamples; ++i) {
    const int label = kRandom.uniform(2 * i) < 0.5F ? 1 : 0;
    const bool misled = kRandom.uniform(2 * i + 1) > 0.85F;
    const double logit = 1.5 + 0.5 * kRandom.normal(i);
    const double sure = std::max(logit, 0.1) * ((label == 1) != misled ? 1 : -1);
    wrong.push_back(misled ? 1 : 0);
    binary.values.push_back(sure);
    classes.values.insert(classes.values.end(), {-sure / 2, sure / 2});
    binary.labels.push_back(label);
    classes.labels.push_back(label);
  }
  config.prediction = "bce";
  EXPECT_EQ(infer_environments(loss_slopes(config, binary)), wrong);
  config.prediction = "cross_entropy";
  EXPECT_EQ(infer_environments(loss_slopes(config, classes)), wrong);
}

/// C of the header, of whole assignments.
double objective(const std::vector<double>& slopes, unsigned ones) {
  double in = 0, out = 0;
  for (std::size_t i = 0; i < slopes.size(); ++i) (ones >> i & 1 ? in : out) += slopes[i];
  return in * in + out * out;
}

TEST(InferEnvironments, AreWhereTheObjectiveIsGreatest) {
  for (std::size_t n = 1; n <= 12; ++n) {
    std::vector<double> slopes;
    for (std::size_t i = 0; i < n; ++i) slopes.push_back(kRandom.normal(100 * n + i));
    const auto found = infer_environments(slopes);
    unsigned ones = 0;
    for (std::size_t i = 0; i < n; ++i) ones |= static_cast<unsigned>(found[i]) << i;
    for (unsigned other = 0; other < 1U << n; ++other)
      EXPECT_GE(objective(slopes, ones), objective(slopes, other) - 1e-12) << n << " " << other;
  }
  EXPECT_TRUE(infer_environments({}).empty());
}

/// Against d loss(w f) / dw by central differences.
TEST(LossSlopes, AreTheDerivativesInTheScale) {
  LossConfig config;
  const Predictions values{.values = {0.7, -1.2, 2.5}, .labels = {1, 0, 1}};
  const auto expect = [&](const char* loss, auto&& of) {
    config.prediction = loss;
    const auto slopes = loss_slopes(config, values);
    for (std::size_t i = 0; i < 3; ++i) {
      const double f = values.values[i], y = values.labels[i], h = 1e-6;
      EXPECT_NEAR(slopes[i], (of(f * (1 + h), y) - of(f * (1 - h), y)) / (2 * h), 1e-7) << loss;
    }
  };
  expect("mse", [](double f, double y) { return (f - y) * (f - y); });
  expect("mae", [](double f, double y) { return std::abs(f - y); });
  expect("bce", [](double f, double y) { return std::log1p(std::exp(f)) - y * f; });
  EXPECT_THROW(loss_slopes(config, {.values = {1, 2}}), Error);
}

/// With data whose spurious factors give the label away but for one sample in ten.
TEST(TrainReference, FindsTheSameEnvironmentsAgain) {
  Config config = small_config();
  config.loss.environments_from = "inferred";
  config.loss.invariance = "vrex";
  const PreparedData data = prepare_data(config, small_dataset());
  const auto first = train_reference(config, data, 3, {}),
             again = train_reference(config, data, 3, {});
  EXPECT_EQ(first.environments.count, 2);
  EXPECT_EQ(first.environments.labels.to_vector(), again.environments.labels.to_vector());
  const auto labels = first.environments.labels.span<std::int32_t>();
  std::vector<std::int64_t> samples(3);
  for (std::int64_t s = 0; s < data.dataset.size(); ++s) ++samples[labels[s] + 1];
  EXPECT_EQ(samples[0], data.dataset.size() - std::ssize(data.split.train));
  EXPECT_GT(samples[1], 0);
  EXPECT_GT(samples[2], 0);
  for (const std::int64_t s : data.split.train) EXPECT_GE(labels[s], 0);
  EXPECT_NE(train_reference(config, data, 4, {}).environments.labels.to_vector(),
            first.environments.labels.to_vector());
}

TEST(TrainReference, SaysWhenThereIsOneEnvironment) {
  Config config = small_config();
  config.loss.environments_from = "inferred";
  config.loss.invariance = "vrex";
  config.training.epochs = 0;
  config.training.checkpoint = "last";
  PreparedData data = prepare_data(config, small_dataset());
  // Predictions of the initial model are near 0: all are below such labels.
  Tensor& labels = data.dataset.labels.at("label").values;
  labels = Tensor::full(labels.shape(), 1e6);
  EXPECT_THAT(message_of([&] { train_reference(config, data, 1, {}); }),
              HasSubstr("errs in one way on all 60 training samples"));
}

}  // namespace
}  // namespace cmir
