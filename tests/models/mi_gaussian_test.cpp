#include "models/experiments/mi_gaussian.h"

#include <gtest/gtest.h>

#include <cmath>

#include "losses/information.h"

namespace cmir {
namespace {

/// With the true conditional as q, vCLUB of the pairs is expected to be width (exp(2 MI / width) -
/// 1), which is far above MI.
TEST(MiGaussian, VclubOfTheTrueConditionalIsWhatTheFormulaSays) {
  const std::int64_t samples = 20000, width = 20;
  for (const double nats : {2.0, 10.0}) {
    const double rho = std::sqrt(1 - std::exp(-2 * nats / width));
    const RandomStream stream{.seed = 3};
    std::vector<double> mean(samples * width), y(samples * width);
    for (std::int64_t i = 0; i < samples * width; ++i) {
      mean[i] = rho * stream.normal(2 * i);
      y[i] = mean[i] + std::sqrt(1 - rho * rho) * stream.normal(2 * i + 1);
    }
    const Shape shape{samples, width};
    const Tensor log_variance = Tensor::full(shape, std::log(1 - rho * rho), DType::f64);
    const double bound = losses::club(Variable(Tensor::from(mean, shape)), Variable(log_variance),
                                      Variable(Tensor::from(y, shape)))
                             .value()
                             .item();
    const double expected = width * (std::exp(2 * nats / width) - 1);
    EXPECT_NEAR(bound, expected, 0.01 * expected) << nats;
  }
}

TEST(MiGaussian, EstimatesRiseWithTheTruthAndComeAgain) {
  const MiGaussianOptions options{.nats = {0.5, 6},
                                  .width = 5,
                                  .batch = 32,
                                  .hidden = 16,
                                  .steps = 200,
                                  .show_progress = false};
  const StudyReport report = mi_gaussian_study(options);
  const Json& estimates = report.json.at("estimates");
  ASSERT_EQ(estimates.size(), 2 * report.table.row_count() / 4);
  for (std::size_t i = 0; i < estimates.size(); i += 2) {
    EXPECT_EQ(estimates[i].at("estimator"), estimates[i + 1].at("estimator"));
    if (estimates[i].at("pairs") == "linear") {  // cubes take longer to learn
      EXPECT_GT(estimates[i + 1].at("mean").get<double>(), estimates[i].at("mean").get<double>())
          << estimates[i].dump();
    }
    EXPECT_NEAR(estimates[i].at("mse").get<double>(),
                estimates[i].at("variance").get<double>() +
                    std::pow(estimates[i].at("bias").get<double>(), 2),
                1e-9);
  }
  EXPECT_EQ(mi_gaussian_study(options).json, report.json);
}

}  // namespace
}  // namespace cmir
