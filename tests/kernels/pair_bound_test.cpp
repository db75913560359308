#include "kernels/information/pair_bound.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class PairBoundTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PairBoundTest, Scalars);

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();  // no average

struct Case {
  std::int64_t n;
  PairBoundKind kind;
  double magnitude;    // of row_largest
  double log_average;  // before the step
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const std::int64_t n : {2, 3, 257, 1500}) {
    all.push_back({n, PairBoundKind::nwj, 2, kNone});
    for (const double magnitude : {2.0, 1e4}) {
      for (const double average : {kNone, -kInfinity, -2 * magnitude, 0.5, 3 * magnitude}) {
        all.push_back({n, PairBoundKind::donsker_varadhan, magnitude, average});
      }
    }
  }
  return all;
}

/// Sums of rows, and what the kernels make of them.
template <class T>
struct Result {
  static constexpr double kRate = 0.1;
  const Case c;
  Guarded<T> diagonal, largest, value, weight, shift, diagonal_weight;
  Guarded<double> sum, log_average;

  explicit Result(const Case& which)
      : c(which),
        diagonal(normals(c.n, 1)),
        largest(normals(c.n, 2, c.magnitude)),
        value(1),
        weight(c.n),
        shift(c.n),
        diagonal_weight(c.n),
        sum(c.n, 0.7),
        log_average(std::vector<double>{c.log_average}) {
    const PairTotals<T> totals{diagonal.data(), largest.data(), sum.data(), c.n};
    run(test_device(), PairBoundForward<T>{totals, c.kind, kRate,
                                           std::isnan(c.log_average) ? nullptr : log_average.data(),
                                           value.data(), weights()});
  }
  PairWeights<T> weights() {
    return {weight.data(), shift.data(), nullptr, nullptr, diagonal_weight.data()};
  }
};

template <class T>
void check(const Case& c) {
  Result<T> actual(c);
  const auto n = static_cast<double>(c.n);
  double most = -kInfinity, sum = 0, diagonal = 0;
  for (const T x : actual.largest.span()) most = std::max(most, double(x));
  for (const T x : actual.largest.span()) sum += 0.7 * std::exp(x - most);
  for (const T x : actual.diagonal.span()) diagonal += x / n;
  const double log_mean = most + std::log(sum / (n * (n - 1)));
  double denominator = c.kind == PairBoundKind::nwj ? 1 : log_mean;
  if (!std::isnan(c.log_average)) {
    const double top = std::max(log_mean, c.log_average);
    denominator =
        top + std::log(0.9 * std::exp(c.log_average - top) + 0.1 * std::exp(log_mean - top));
    if (std::isinf(c.log_average)) denominator = log_mean;
    EXPECT_NEAR(actual.log_average[0], denominator, 1e-12 * (1 + std::abs(denominator)));
  }
  const std::string what =
      fmt::format("n {} magnitude {} average {}", c.n, c.magnitude, c.log_average);
  const double expected =
      diagonal - (c.kind == PairBoundKind::nwj ? std::exp(log_mean - 1) : log_mean);
  expect_close(actual.value, {expected}, 1 + std::abs(expected), 16, what);
  std::vector<double> weights;
  double norm = 1;
  for (const T x : actual.largest.span()) {
    weights.push_back(-1 / (n * (n - 1)) * std::exp(x - denominator));
    if (weights.back() < -std::numeric_limits<T>::max()) weights.back() = -kInfinity;
    if (std::isfinite(weights.back())) norm = std::max(norm, -weights.back() * (1 + c.magnitude));
  }
  expect_close(actual.weight, weights, norm, 16, what);
  expect_close(actual.shift, actual.largest.to_vector(), 1, 0, what);
  expect_close(actual.diagonal_weight, std::vector<double>(c.n, 1 / n), 1, 1, what);
}

TYPED_TEST(PairBoundTest, MatchesTheFormula) {
  for_each_variant<TypeParam>([] {
    for (const Case& c : cases()) check<TypeParam>(c);
  });
}

TYPED_TEST(PairBoundTest, NaNGivesNaN) {
  for_each_variant<TypeParam>([] {
    Result<TypeParam> r({300, PairBoundKind::donsker_varadhan, 2, kNone});
    r.sum[299] = std::numeric_limits<double>::quiet_NaN();
    run(test_device(),
        PairBoundForward<TypeParam>{{r.diagonal.data(), r.largest.data(), r.sum.data(), 300},
                                    PairBoundKind::donsker_varadhan,
                                    1,
                                    nullptr,
                                    r.value.data(),
                                    r.weights()});
    EXPECT_TRUE(std::isnan(r.value[0]));
  });
}

TEST(PairBound, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    Result<float> r({3000, PairBoundKind::donsker_varadhan, 2, 0.5});
    return joined(r.value, r.weight, r.shift, r.diagonal_weight);
  });
}

}  // namespace
}  // namespace cmir::kernels
