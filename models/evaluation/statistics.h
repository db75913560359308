// The statistics of repeated runs: mean and deviation over seeds, significance, confidence.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace cmir {

/// Arithmetic mean; NaN for no values.
double mean(std::span<const double> values);
/// Sample standard deviation (divided by n - 1); NaN for fewer than two values.
double standard_deviation(std::span<const double> values);

struct PairedTest {
  double mean_difference = 0;  ///< of a - b
  double t = 0;                ///< mean difference over its standard error
  std::int64_t degrees = 0;    ///< of freedom, n - 1
  double p = 1;                ///< two-sided
};

/// Student's t-test of paired samples, e.g. one metric of two models over the same seeds (the
/// paper's appendix J). At least two pairs. Differences that are all equal give p = 0, or p = 1
/// when they are all zero.
PairedTest paired_t_test(std::span<const double> a, std::span<const double> b);

/// I_x(a, b), the regularised incomplete beta function, for a, b > 0 and x in 0..1: the continued
/// fraction DLMF 8.17.22 by Lentz's method, on the side of the symmetry I_x(a, b) = 1 - I_{1-x}(b,
/// a) where it converges fast.
double incomplete_beta(double a, double b, double x);

/// The t below which Student's distribution with so many degrees of freedom (any positive number)
/// has probability `p`, in 0.5..1 without 1; by bisection of its tail.
double student_quantile(double p, double degrees);

struct Interval {
  double low = 0, high = 0;
};

/// Percentile bootstrap (Efron): `statistic` of `resamples` draws of n indices out of 0..n-1 with
/// replacement; the interval holds the middle `level` of them. Draws come from Philox: the same
/// seed, the same interval. Undefined (NaN) statistics are left out; when all are, the interval is
/// NaN.
Interval bootstrap(std::int64_t n,
                   const std::function<double(std::span<const std::int64_t> indices)>& statistic,
                   double level = 0.95, int resamples = 2000, std::uint64_t seed = 0);
/// The same for the mean of `values`.
Interval bootstrap_mean(std::span<const double> values, double level = 0.95, int resamples = 2000,
                        std::uint64_t seed = 0);

}  // namespace cmir
