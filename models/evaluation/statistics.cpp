#include "models/evaluation/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/philox.h"

namespace cmir {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

/// Linear interpolation between order statistics (numpy's default), `sorted` not empty.
double quantile(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], position - static_cast<double>(below));
}

/// DLMF 8.17.22 by the modified Lentz method; converges fast for x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  const auto away_from_zero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), value = d;
  for (int m = 1; m < 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    double factor = 1;
    for (const double term : {even, odd}) {
      d = 1 / away_from_zero(1 + term * d);
      c = away_from_zero(1 + term / c);
      factor = c * d;
      value *= factor;
    }
    if (std::abs(factor - 1) < 1e-15) return value;
  }
  fail(ErrorKind::numeric, "incomplete_beta", "does not converge for a = {}, b = {}, x = {}", a, b,
       x);
}

}  // namespace

double mean(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double standard_deviation(std::span<const double> values) {
  if (values.size() < 2) return kUndefined;
  const double centre = mean(values);
  double sum = 0;
  for (const double value : values) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

double incomplete_beta(double a, double b, double x) {
  require(a > 0 && b > 0 && x >= 0 && x <= 1, "incomplete_beta",
          "needs a, b > 0 and x in 0..1, got a = {}, b = {}, x = {}", a, b, x);
  if (x == 0 || x == 1) return x;
  const double front = std::exp(a * std::log(x) + b * std::log1p(-x) + std::lgamma(a + b) -
                                std::lgamma(a) - std::lgamma(b));
  return x < (a + 1) / (a + b + 2) ? front / a * beta_fraction(a, b, x)
                                   : 1 - front / b * beta_fraction(b, a, 1 - x);
}

PairedTest paired_t_test(std::span<const double> a, std::span<const double> b) {
  require(a.size() == b.size() && a.size() >= 2, "paired_t_test",
          "needs at least two pairs, got {} and {} values", a.size(), b.size());
  std::vector<double> differences(a.size());
  std::transform(a.begin(), a.end(), b.begin(), differences.begin(), std::minus<>());
  const auto n = static_cast<double>(a.size());
  PairedTest test{.mean_difference = mean(differences),
                  .degrees = static_cast<std::int64_t>(a.size()) - 1};
  const bool all_equal =
      std::equal(differences.begin() + 1, differences.end(), differences.begin());
  if (all_equal) {
    const double difference = differences.front();
    test.t =
        difference == 0 ? 0 : std::copysign(std::numeric_limits<double>::infinity(), difference);
    test.p = difference == 0 ? 1 : 0;
    return test;
  }
  test.t = test.mean_difference / (standard_deviation(differences) / std::sqrt(n));
  const auto degrees = static_cast<double>(test.degrees);
  // P(|T| > t) = I_{v / (v + t^2)}(v / 2, 1 / 2), DLMF 8.17 and the density of Student's t.
  test.p = incomplete_beta(degrees / 2, 0.5, degrees / (degrees + test.t * test.t));
  return test;
}

double student_quantile(double p, double degrees) {
  require(p >= 0.5 && p < 1 && degrees > 0, "student_quantile",
          "needs p in 0.5..1 and degrees > 0, got {} and {}", p, degrees);
  const auto tail = [&](double t) {  // as in paired_t_test, one-sided
    return 0.5 * incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t));
  };
  double low = 0, high = 1;
  while (tail(high) > 1 - p && high < 1e150) high *= 2;
  for (int i = 0; i < 200 && high - low > 1e-14 * high; ++i) {
    const double middle = (low + high) / 2;
    (tail(middle) > 1 - p ? low : high) = middle;
  }
  return (low + high) / 2;
}

Interval bootstrap(std::int64_t n,
                   const std::function<double(std::span<const std::int64_t>)>& statistic,
                   double level, int resamples, std::uint64_t seed) {
  require(n >= 1 && n < (std::int64_t{1} << 31) && resamples >= 1 && level > 0 && level < 1,
          "bootstrap", "needs samples, resamples and a level in 0..1, got {}, {} and {}", n,
          resamples, level);
  std::vector<std::int64_t> indices(static_cast<std::size_t>(n));
  std::vector<double> results;
  for (int r = 0; r < resamples; ++r) {
    const RandomStream stream{.seed = seed, .step = static_cast<std::uint32_t>(r)};
    for (std::int64_t i = 0; i < n; ++i) {
      // The word as a fraction of 2^32, times n.
      indices[static_cast<std::size_t>(i)] =
          static_cast<std::int64_t>((std::uint64_t{stream.word(static_cast<std::uint64_t>(i))} *
                                     static_cast<std::uint64_t>(n)) >>
                                    32);
    }
    const double value = statistic(indices);
    if (!std::isnan(value)) results.push_back(value);
  }
  if (results.empty()) return {kUndefined, kUndefined};
  std::sort(results.begin(), results.end());
  return {quantile(results, (1 - level) / 2), quantile(results, (1 + level) / 2)};
}

Interval bootstrap_mean(std::span<const double> values, double level, int resamples,
                        std::uint64_t seed) {
  const auto mean_of = [&](std::span<const std::int64_t> indices) {
    double sum = 0;
    for (const std::int64_t i : indices) sum += values[static_cast<std::size_t>(i)];
    return sum / static_cast<double>(indices.size());
  };
  return bootstrap(static_cast<std::int64_t>(values.size()), mean_of, level, resamples, seed);
}

}  // namespace cmir
