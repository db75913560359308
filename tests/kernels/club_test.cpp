#include "kernels/information/club.h"

#include "kernels/information/club_sample.h"
#include "kernels/information/gaussian.h"
#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

#include <numbers>
#include <numeric>

#include "core/permutation.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class ClubTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ClubTest, Scalars);

/// A value, its three gradients, and the sums of the magnitudes that went into the value and into
/// one element of a gradient.
struct Oracle {
  long double value = 0, norm = 0;
  std::vector<double> dmu, dlogvar, dy;

  explicit Oracle(std::int64_t count) : dmu(count), dlogvar(count), dy(count) {}
  double largest() const {
    double result = 0;
    for (const auto* gradient : {&dmu, &dlogvar, &dy}) {
      for (const double x : *gradient) result = std::max(result, std::abs(x));
    }
    return result;
  }
};

/// Adds weight ln N(y_j; mu_i, exp logvar_i) and its gradients, feature by feature.
struct LogDensity {
  const std::vector<double>&mu, &logvar, &y;
  std::int64_t width;

  void add(Oracle& to, std::int64_t i, std::int64_t j, double weight) const {
    for (std::int64_t k = 0; k < width; ++k) {
      const std::int64_t p = i * width + k, q = j * width + k;
      const long double w = std::exp(static_cast<long double>(-logvar[p]));
      const long double apart = static_cast<long double>(y[q]) - mu[p], square = w * apart * apart;
      to.value -=
          weight * 0.5L * (square + logvar[p] + std::log(2 * std::numbers::pi_v<long double>));
      to.norm += std::abs(weight) * square;
      to.dmu[p] += static_cast<double>(weight * w * apart);
      to.dlogvar[p] += static_cast<double>(weight * 0.5L * (square - 1));
      to.dy[q] -= static_cast<double>(weight * w * apart);
    }
  }
};

template <class T>
struct Inputs {
  std::int64_t rows, width, shift;
  Guarded<T> mu, logvar, y, cotangent, value, dmu, dlogvar, dy;

  Inputs(std::int64_t samples, std::int64_t features, std::int64_t offset, double mean = 0)
      : rows(samples),
        width(features),
        shift(offset),
        mu(normals(rows * width + shift, 1)),
        logvar(normals(rows * width + shift, 2)),
        y(normals(rows * width + shift, 3)),
        cotangent(std::vector<double>{-1.5}),
        value(1),
        dmu(rows * width),
        dlogvar(rows * width),
        dy(rows * width) {
    for (std::int64_t i = 0; i < rows * width + shift; ++i) {
      mu[i] = static_cast<T>(mu[i] + mean);
      y[i] = static_cast<T>(0.5 * (mu[i] - mean) + y[i] + mean);
    }
  }
  std::vector<double> plain(Guarded<T>& array) const {
    const auto values = array.to_vector();
    return {values.begin() + shift, values.end()};
  }
  std::string what() const { return fmt::format("[{}, {}] shift {}", rows, width, shift); }

  /// The value within factor eps of what its terms' magnitudes allow, the gradients of their
  /// largest.
  void expect(Oracle oracle, double factor) {
    for (auto* gradient : {&oracle.dmu, &oracle.dlogvar, &oracle.dy}) {
      for (double& x : *gradient) x *= -1.5;
    }
    const auto norm = static_cast<double>(oracle.norm);
    expect_close(value, {static_cast<double>(oracle.value)},
                 std::max(norm, 1.0 / static_cast<double>(rows)), factor, what());
    const double largest = std::max(oracle.largest(), 1.0 / static_cast<double>(rows));
    expect_close(dmu, oracle.dmu, largest, factor, what() + " dmu");
    expect_close(dlogvar, oracle.dlogvar, largest, factor, what() + " dlogvar");
    expect_close(dy, oracle.dy, largest, factor, what() + " dy");
  }
};

const std::vector<std::pair<std::int64_t, std::int64_t>> kShapes = {
    {1, 1}, {1, 7}, {2, 3}, {5, 1}, {7, 33}, {65, 4}, {31, 130}, {129, 9}, {3, 1028}};

template <class T>
void run_club(Inputs<T>& in, bool weighted) {
  using Forward = ClubForward<T>;
  Guarded<double> partial(Forward::workspace(in.rows, in.width)), moments(kClubMoments * in.width);
  const T *mu = in.mu.data() + in.shift, *y = in.y.data() + in.shift;
  const T* logvar = weighted ? in.logvar.data() + in.shift : nullptr;
  const double scale = 1.0 / static_cast<double>(in.rows);
  run(test_device(), Forward{mu, logvar, y, in.rows, in.width, scale, partial.data(),
                             moments.data(), in.value.data()});
  run(test_device(),
      ClubBackward<T>{mu, logvar, y, moments.data(), in.cotangent.data(), in.rows, in.width, scale,
                      in.dmu.data(), weighted ? in.dlogvar.data() : nullptr, in.dy.data()});
}

/// All pairs, as the bound is defined. `far`: rows at the start that are 1000 from the others.
template <class T>
void check_club(std::int64_t rows, std::int64_t width, std::int64_t shift, bool weighted,
                double mean = 0, double factor = 8, std::int64_t far = 0) {
  Inputs<T> in(rows, width, shift, mean);
  for (auto* array : {&in.mu, &in.y}) {
    for (std::int64_t i = 0; i < far * width; ++i) (*array)[shift + i] += T{1000};
  }
  if (!weighted) std::ranges::fill(in.logvar.span(), T{0});
  const auto mu = in.plain(in.mu), logvar = in.plain(in.logvar), y = in.plain(in.y);
  Oracle oracle(rows * width);
  const LogDensity density{mu, logvar, y, width};
  const double each = 1.0 / static_cast<double>(rows);
  for (std::int64_t i = 0; i < rows; ++i) {
    density.add(oracle, i, i, each);
    for (std::int64_t j = 0; j < rows; ++j) density.add(oracle, i, j, -each * each);
  }
  run_club(in, weighted);
  if (!weighted) {
    std::ranges::fill(oracle.dlogvar, 0.0);
    std::ranges::fill(in.dlogvar.span(), T{0});
  }
  in.expect(oracle, factor);
}

TYPED_TEST(ClubTest, MatchesAllPairsWrittenOut) {
  for_each_variant<TypeParam>([] {
    for (const auto& [rows, width] : kShapes) {
      for (const std::int64_t shift : {0, 1}) {
        for (const bool weighted : {true, false}) {
          check_club<TypeParam>(rows, width, shift, weighted);
        }
      }
    }
  });
}

/// Centred moments: a mean of 1e4 standard deviations costs what rounding that mean to f64 does,
/// which f32 does not see. Without centring it would cost the mean's square.
TYPED_TEST(ClubTest, ACommonMeanCostsItsOwnRounding) {
  using T = TypeParam;
  constexpr double mean = 1e4, factor = std::is_same_v<T, double> ? 8 * mean : 8;
  for_each_variant<T>([] { check_club<T>(33, 5, 0, true, mean, factor); });
}

/// The first row is what CUDA's moments are taken about, the mean of the first 16 the CPU's: far
/// from the others they cost no more than those rows' own squares do.
TYPED_TEST(ClubTest, FirstRowsFarFromTheOthers) {
  for_each_variant<TypeParam>([] {
    for (const std::int64_t far : {1, 16, 20}) check_club<TypeParam>(70, 5, 0, true, 0, 8, far);
  });
}

TYPED_TEST(ClubTest, IdenticalRowsGiveZero) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Inputs<T> in(70, 5, 0);
    for (std::int64_t i = 0; i < 70 * 5; ++i) in.y[i] = in.y[i % 5];
    run_club(in, true);
    EXPECT_NEAR(in.value[0], 0, 1e-12);
    for (const T x : in.dmu.span()) EXPECT_NEAR(x, 0, 1e-12);
  });
}

TYPED_TEST(ClubTest, ManyChunks) {
  using T = TypeParam;
  for_each_variant<T>([] {  // 257 chunks of 64 rows would be too many: the closed form by hand
    const std::int64_t rows = 64 * 256 + 77;
    Inputs<T> in(rows, 3, 0);
    run_club(in, false);
    long double covariance = 0, mean[3] = {};
    for (std::int64_t i = 0; i < rows * 3; ++i) mean[i % 3] += in.y[i] / (rows * 1.0L);
    for (std::int64_t i = 0; i < rows * 3; ++i) {
      covariance += in.mu[i] * (in.y[i] - mean[i % 3]) / (rows * 1.0L);
    }
    expect_close(in.value, {static_cast<double>(covariance)}, 10, 8, "many chunks");
  });
}

TYPED_TEST(ClubTest, NaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (Guarded<T> Inputs<T>::*part : {&Inputs<T>::mu, &Inputs<T>::logvar, &Inputs<T>::y}) {
      Inputs<T> in(9, 5, 0);
      (in.*part)[17] = std::numeric_limits<T>::quiet_NaN();
      run_club(in, true);
      EXPECT_TRUE(std::isnan(in.value[0]));
    }
  });
}

template <class T>
void run_nll(Inputs<T>& in) {
  Guarded<double> sums(in.rows);
  const T *mu = in.mu.data() + in.shift, *logvar = in.logvar.data() + in.shift,
          *y = in.y.data() + in.shift;
  const double scale = 1.0 / static_cast<double>(in.rows);
  run(test_device(),
      GaussianNllForward<T>{mu, logvar, y, in.rows, in.width, scale, sums.data(), in.value.data()});
  run(test_device(), GaussianNllBackward<T>{mu, logvar, y, in.cotangent.data(), in.rows, in.width,
                                            scale, in.dmu.data(), in.dlogvar.data(), in.dy.data()});
}

TYPED_TEST(ClubTest, GaussianNllMatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [rows, width] : kShapes) {
      for (const std::int64_t shift : {0, 1}) {
        Inputs<T> in(rows, width, shift);
        const auto mu = in.plain(in.mu), logvar = in.plain(in.logvar), y = in.plain(in.y);
        Oracle oracle(rows * width);
        for (std::int64_t i = 0; i < rows; ++i) {
          LogDensity{mu, logvar, y, width}.add(oracle, i, i, -1.0 / static_cast<double>(rows));
        }
        oracle.norm += static_cast<double>(3 * width);
        run_nll(in);
        in.expect(oracle, 8);
      }
    }
  });
}

template <class T>
void run_sample(Inputs<T>& in, const RandomStream& stream, Guarded<std::int32_t>& permutation,
                Guarded<std::int32_t>& inverse) {
  Guarded<double> sums(in.rows);
  const T *mu = in.mu.data() + in.shift, *logvar = in.logvar.data() + in.shift,
          *y = in.y.data() + in.shift;
  const double scale = 1.0 / static_cast<double>(in.rows);
  run(test_device(), Permute<std::int32_t>{stream, in.rows, permutation.data(), inverse.data()});
  run(test_device(), ClubSampleForward<T>{mu, logvar, y, permutation.data(), in.rows, in.width,
                                          scale, sums.data(), in.value.data()});
  run(test_device(), ClubSampleBackward<T>{mu, logvar, y, permutation.data(), inverse.data(),
                                           in.cotangent.data(), in.rows, in.width, scale,
                                           in.dmu.data(), in.dlogvar.data(), in.dy.data()});
}

TYPED_TEST(ClubTest, ClubSampleMatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [rows, width] : kShapes) {
      for (const std::int64_t shift : {0, 1}) {
        Inputs<T> in(rows, width, shift);
        const RandomStream stream{.seed = 5, .step = 7, .site = 3};
        const RandomPermutation expected(stream, static_cast<std::uint32_t>(rows));
        const auto mu = in.plain(in.mu), logvar = in.plain(in.logvar), y = in.plain(in.y);
        Oracle oracle(rows * width);
        const LogDensity density{mu, logvar, y, width};
        const double each = 1.0 / static_cast<double>(rows);
        for (std::int64_t i = 0; i < rows; ++i) {
          density.add(oracle, i, i, each);
          density.add(oracle, i, expected(static_cast<std::uint32_t>(i)), -each);
        }
        Guarded<std::int32_t> permutation(rows), inverse(rows);
        run_sample(in, stream, permutation, inverse);
        in.expect(oracle, 8);
        for (std::int64_t i = 0; i < rows; ++i) {
          EXPECT_EQ(permutation[i], expected(static_cast<std::uint32_t>(i)));
          EXPECT_EQ(inverse[permutation[i]], i);
        }
      }
    }
  });
}

TEST(ClubKernels, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    Inputs<float> club(130, 37, 0), nll(130, 37, 0), sample(130, 37, 0);
    Guarded<std::int32_t> permutation(130), inverse(130);
    run_club(club, true);
    run_nll(nll);
    run_sample(sample, {.seed = 1}, permutation, inverse);
    return joined(club.value, club.dmu, club.dlogvar, club.dy, nll.value, nll.dmu, nll.dlogvar,
                  nll.dy, sample.value, sample.dmu, sample.dlogvar, sample.dy);
  });
}

/// A bound of 0 whatever the sample is, also where its precision is beyond exp.
TEST(ClubKernels, OneSampleHasABoundAndGradientsOfZero) {
  for_each_variant<float>([] {
    Inputs<float> in(1, 19, 0);
    std::ranges::fill(in.logvar.span(), -100.0F);
    run_club(in, true);
    EXPECT_EQ(in.value[0], 0);
    for (Guarded<float>* gradient : {&in.dmu, &in.dlogvar, &in.dy})
      expect_close(*gradient, std::vector<double>(19), 0, 0, "one sample");
  });
}

TEST(RandomPermutation, IsOneOfEverySize) {
  for (std::uint32_t count = 1; count < 300; ++count) {
    const RandomPermutation permutation({.seed = 9, .step = count}, count);
    std::vector<bool> seen(count);
    for (std::uint32_t i = 0; i < count; ++i) {
      ASSERT_LT(permutation(i), count);
      seen[permutation(i)] = true;
    }
    EXPECT_EQ(std::accumulate(seen.begin(), seen.end(), 0U), count) << count;
  }
}

/// Pearson's chi-squared over all orders of four: 23 degrees of freedom, 60 is far in the tail.
TEST(RandomPermutation, IsUniformOverTheOrdersOfFour) {
  constexpr int kDraws = 24000;
  std::vector<int> times(256);
  for (std::uint32_t step = 0; step < kDraws; ++step) {
    const RandomPermutation permutation({.seed = 2, .step = step}, 4);
    times[permutation(0) + 4 * permutation(1) + 16 * permutation(2) + 64 * permutation(3)] += 1;
  }
  double chi_squared = 0;
  int orders = 0;
  for (const int n : times) {
    if (n == 0) continue;
    ++orders;
    chi_squared += std::pow(n - kDraws / 24.0, 2) / (kDraws / 24.0);
  }
  EXPECT_EQ(orders, 24);
  EXPECT_LT(chi_squared, 60);
}

}  // namespace
}  // namespace cmir::kernels
