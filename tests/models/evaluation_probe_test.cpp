#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/philox.h"
#include "models/evaluation/probe.h"

namespace cmir {
namespace {

using testing::HasSubstr;
using Indices = std::vector<std::int64_t>;

Indices range(std::int64_t begin, std::int64_t end) {
  Indices indices(static_cast<std::size_t>(end - begin));
  std::iota(indices.begin(), indices.end(), begin);
  return indices;
}

std::vector<double> noise(std::int64_t count, std::uint64_t seed) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < count; ++i) {
    values.push_back(RandomStream{seed}.normal(static_cast<std::uint64_t>(i)));
  }
  return values;
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Probe, RegressionRecoversALinearTarget) {
  const std::int64_t n = 300, d = 5;
  const auto x = noise(n * d, 1);
  std::vector<double> y;
  for (std::int64_t i = 0; i < n; ++i) y.push_back(3 + 2 * x[i * d] - x[i * d + 4]);
  const auto probe = probe_regression(Tensor::from(x, {n, d}), y, range(0, 200), range(200, n), 0);
  EXPECT_LT(probe.mse, 1e-20);
  EXPECT_NEAR(probe.chance_mse, 5, 1.5);
  EXPECT_NEAR(probe.predictions[7], y[207], 1e-10);
}

TEST(Probe, RidgeOfOneFeatureByHand) {
  // Standardised x = -1, 1; mean (y - w x - b)^2 + l2 w^2 has b = 2 and w = mean(x y) / (1 + l2) =
  // 1 / 1.25.
  const auto probe = probe_regression(Tensor::from({10.0, 30.0}, {2, 1}), std::vector<double>{1, 3},
                                      range(0, 2), range(0, 2), 0.25);
  EXPECT_NEAR(probe.predictions[0], 2 - 0.8, 1e-14);
  EXPECT_NEAR(probe.predictions[1], 2 + 0.8, 1e-14);
  EXPECT_NEAR(probe.mse, 0.04, 1e-14);
  EXPECT_NEAR(probe.chance_mse, 1, 1e-14);
}

TEST(Probe, NoiseIsReadAtChanceLevel) {
  const std::int64_t n = 1000, d = 8;
  const Tensor x = Tensor::from(noise(n * d, 2), {n, d});
  std::vector<double> environment;
  Indices classes;
  for (std::int64_t i = 0; i < n; ++i) {
    classes.push_back(RandomStream{3}.word(static_cast<std::uint64_t>(i)) % 5);
    environment.push_back(static_cast<double>(classes.back() + 1));
  }
  const auto regression = probe_regression(x, environment, range(0, 500), range(500, n));
  EXPECT_NEAR(regression.chance_mse, 2.0, 0.2);  // the variance of 1..5
  EXPECT_NEAR(regression.mse / regression.chance_mse, 1, 0.06);
  const auto classification = probe_classification(x, classes, range(0, 500), range(500, n));
  EXPECT_NEAR(classification.accuracy, 20, 6);
  EXPECT_NEAR(classification.chance_accuracy, 20, 6);
}

TEST(Probe, ClassificationSeparatesThreeClusters) {
  const std::int64_t n = 240;
  auto x = noise(n * 2, 4);
  Indices labels;
  for (std::int64_t i = 0; i < n; ++i) {
    labels.push_back(i % 3);
    x[2 * i] += i % 3 == 1 ? 12 : 0;
    x[2 * i + 1] += i % 3 == 2 ? 12 : 0;
  }
  const auto probe = probe_classification(Tensor::from(x, {n, 2}).to(DType::f32), labels,
                                          range(0, 120), range(120, n));
  EXPECT_EQ(probe.accuracy, 100);
  EXPECT_NEAR(probe.chance_accuracy, 100.0 / 3, 1e-9);
  EXPECT_NEAR(probe.probabilities[0] + probe.probabilities[1] + probe.probabilities[2], 1, 1e-12);
}

TEST(Probe, LogisticFitOfABinaryFeatureIsTheTableOfFrequencies) {
  // x = 0: labels 1 in 1 of 4; x = 1: 3 of 5. Without a penalty the fit reproduces the frequencies.
  const Tensor x = Tensor::from({0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0}, {9, 1});
  const auto probe =
      probe_classification(x, Indices{0, 1, 0, 0, 1, 1, 0, 1, 0}, range(0, 9), range(0, 9), 0);
  EXPECT_NEAR(probe.probabilities[1], 0.25, 1e-4);
  EXPECT_NEAR(probe.probabilities[2 * 8 + 1], 0.6, 1e-4);
  EXPECT_NEAR(probe.accuracy, 100.0 * 6 / 9, 1e-9);
  EXPECT_NEAR(probe.chance_accuracy, 100.0 * 5 / 9, 1e-9);
}

TEST(Probe, ConstantColumnsAreIgnored) {
  const Tensor x = Tensor::from({0.1, 1.0, 0.1, 2.0, 0.1, 3.0}, {3, 2});
  const auto probe = probe_regression(x, std::vector<double>{1, 2, 3}, range(0, 3), range(0, 3), 0);
  EXPECT_LT(probe.mse, 1e-20);
}

TEST(Probe, BadInputIsAnError) {
  const Tensor x = Tensor::from({1.0, 2.0, 2.0, 4.0, 3.0, 6.0}, {3, 2});
  const std::vector<double> y{1, 2, 3};
  const auto run = [&](const Indices& train, const Indices& test, double l2) {
    return error_of([&] { probe_regression(x, y, train, test, l2); });
  };
  EXPECT_THAT(run({0, 1, 2}, {0}, 0),
              HasSubstr("column 1 depends on the columns before it; raise l2"));
  EXPECT_EQ(run({0, 1, 2}, {0}, 1e-3), "no error");
  EXPECT_THAT(run({}, {0}, 0), HasSubstr("needs training and test samples, got 0 and 1"));
  EXPECT_THAT(run({0}, {3}, 0), HasSubstr("index 3 is outside the 3 samples"));
  EXPECT_THAT(run({0}, {1}, -1), HasSubstr("l2 = -1"));
  EXPECT_THAT(
      error_of([&] { probe_regression(x, std::vector<double>{1}, range(0, 1), range(0, 1)); }),
      HasSubstr("1 targets do not fit 3 samples"));
  EXPECT_THAT(error_of([&] {
                probe_regression(x, std::vector<double>{1, NAN, 3}, range(0, 1), range(0, 1));
              }),
              HasSubstr("target 1 is nan"));
  EXPECT_THAT(error_of([&] {
                probe_classification(x, Indices{0, -1, 1}, range(0, 1), range(0, 1));
              }),
              HasSubstr("labels -1..1 are no classes"));
  const Tensor bad = Tensor::from<double>({1.0, NAN, 2.0}, {3, 1});
  EXPECT_THROW(probe_regression(bad, y, range(0, 1), range(0, 1)), Error);
  EXPECT_THROW(probe_regression(Tensor(), y, range(0, 1), range(0, 1)), Error);
}

}  // namespace
}  // namespace cmir
