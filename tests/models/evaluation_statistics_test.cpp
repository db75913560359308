#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/error.h"
#include "models/evaluation/statistics.h"

namespace cmir {
namespace {

using Values = std::vector<double>;

TEST(Statistics, MeanAndDeviation) {
  const Values values{2, 4, 4, 4, 5, 5, 7, 9};
  EXPECT_DOUBLE_EQ(mean(values), 5);
  EXPECT_DOUBLE_EQ(standard_deviation(values), std::sqrt(32.0 / 7));
  EXPECT_TRUE(std::isnan(mean(Values{})));
  EXPECT_TRUE(std::isnan(standard_deviation(Values{1})));
}

TEST(Statistics, StudentQuantilesOfTheTables) {
  EXPECT_NEAR(student_quantile(0.975, 1), 12.706204736, 1e-8);  // tan(0.475 pi)
  EXPECT_NEAR(student_quantile(0.975, 4), 2.776445105, 1e-8);
  EXPECT_NEAR(student_quantile(0.995, 10), 3.169272673, 1e-8);
  EXPECT_NEAR(student_quantile(0.975, 2.5), 3.558, 2e-2);
  EXPECT_NEAR(student_quantile(0.975, 1e6), 1.959966, 1e-5);
  EXPECT_NEAR(student_quantile(0.5, 3), 0, 1e-6);
  EXPECT_THROW(student_quantile(1, 3), Error);
}

TEST(Statistics, IncompleteBetaKnownValues) {
  EXPECT_DOUBLE_EQ(incomplete_beta(1, 1, 0.3), 0.3);             // uniform
  EXPECT_NEAR(incomplete_beta(2, 1, 0.3), 0.09, 1e-15);          // x^2
  EXPECT_NEAR(incomplete_beta(1, 3, 0.2), 1 - 0.512, 1e-15);     // 1 - (1 - x)^3
  EXPECT_NEAR(incomplete_beta(0.5, 0.5, 0.5), 0.5, 1e-14);       // arcsine law
  EXPECT_NEAR(incomplete_beta(0.5, 0.5, 0.25), 1.0 / 3, 1e-14);  // (2 / pi) asin(sqrt x)
  EXPECT_NEAR(incomplete_beta(3, 2, 0.4), 0.1792, 1e-14);        // 4 x^3 - 3 x^4
  EXPECT_NEAR(incomplete_beta(500, 500, 0.5), 0.5, 1e-11);
  EXPECT_EQ(incomplete_beta(2, 3, 0), 0);
  EXPECT_EQ(incomplete_beta(2, 3, 1), 1);
  EXPECT_THROW(incomplete_beta(2, 3, 1.1), Error);
  EXPECT_THROW(incomplete_beta(0, 3, 0.1), Error);
}

TEST(Statistics, PairedTTest) {
  // Two degrees of freedom have a closed form: p = 1 - t / sqrt(t^2 + 2).
  const PairedTest three = paired_t_test(Values{1, 2, 4}, Values{0, 0, 0});
  EXPECT_EQ(three.degrees, 2);
  EXPECT_NEAR(three.t, (7.0 / 3) / std::sqrt(7.0 / 9), 1e-14);
  EXPECT_NEAR(three.p, 1 - three.t / std::sqrt(three.t * three.t + 2), 1e-14);
  // Gosset's sleep data ("Student", 1908; R's ?sleep): t = 4.0621, 9 degrees, p = 0.002833.
  const Values first{0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0};
  const Values second{1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4};
  const PairedTest sleep = paired_t_test(second, first);
  EXPECT_NEAR(sleep.mean_difference, 1.58, 1e-12);
  EXPECT_NEAR(sleep.t, 4.0621, 5e-5);
  EXPECT_NEAR(sleep.p, 0.002833, 5e-7);
  EXPECT_NEAR(paired_t_test(first, second).p, sleep.p, 1e-15);
}

TEST(Statistics, PairedTTestOfEqualDifferences) {
  EXPECT_EQ(paired_t_test(Values{1, 2}, Values{1, 2}).p, 1);
  EXPECT_EQ(paired_t_test(Values{1, 2}, Values{0, 1}).p, 0);
  EXPECT_THROW(paired_t_test(Values{1}, Values{1}), Error);
  EXPECT_THROW(paired_t_test(Values{1, 2}, Values{1, 2, 3}), Error);
}

TEST(Statistics, BootstrapCoversAsTheNormalTheorySays) {
  Values values;
  for (int i = 0; i < 400; ++i) values.push_back(i % 20);
  const Interval interval = bootstrap_mean(values, 0.95, 4000, 3);
  const double half = 1.96 * standard_deviation(values) / std::sqrt(400.0);
  EXPECT_NEAR(interval.low, 9.5 - half, 0.05);
  EXPECT_NEAR(interval.high, 9.5 + half, 0.05);
  const Interval again = bootstrap_mean(values, 0.95, 4000, 3);
  EXPECT_EQ(interval.low, again.low);
  EXPECT_EQ(interval.high, again.high);
  EXPECT_NE(interval.low, bootstrap_mean(values, 0.95, 4000, 4).low);
}

TEST(Statistics, BootstrapEdges) {
  const Interval one = bootstrap_mean(Values{7});
  EXPECT_EQ(one.low, 7);
  EXPECT_EQ(one.high, 7);
  EXPECT_THROW(bootstrap_mean(Values{}), Error);
  EXPECT_THROW(bootstrap_mean(Values{1, 2}, 1.5), Error);
  EXPECT_TRUE(std::isnan(bootstrap(3, [](auto) { return std::nan(""); }).low));
}

}  // namespace
}  // namespace cmir
