// NWJ, Donsker-Varadhan and MINE against all scores written out.
#include "autograd/precision.h"
#include "core/graph.h"
#include "losses/donsker_varadhan.h"
#include "losses/info_nce.h"
#include "losses/nwj.h"
#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class PairBoundsTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PairBoundsTest, Scalars);

/// 1e-5 in f32, and in f64 as many of its own eps.
constexpr double kFactor = 1e-5 / std::numeric_limits<float>::epsilon();

enum class Bound { nwj, donsker_varadhan };

/// The value and its gradients with respect to a, b and ln scale for the dot critic; the gradient
/// with exp(log_denominator) below it where that is not NaN.
struct Naive {
  Evaluated result;
  double log_mean = 0;

  Naive(Bound bound, const Tensor& a_rows, const Tensor& b_rows, double scale,
        double log_denominator = kNaN) {
    const std::int64_t n = a_rows.size(0), d = a_rows.size(1);
    const Values a = a_rows.to_vector(), b = b_rows.to_vector();
    Values s(n * n), da(n * d), db(n * d), dlog(1);
    double mean = 0, others = 0;
    const double pairs = static_cast<double>(n) * static_cast<double>(n - 1);
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        for (std::int64_t k = 0; k < d; ++k) s[i * n + j] += scale * a[i * d + k] * b[j * d + k];
        if (i != j) others += std::exp(s[i * n + j]) / pairs;
      }
      mean += s[i * n + i] / static_cast<double>(n);
    }
    log_mean = std::log(others);
    const bool nwj = bound == Bound::nwj;
    if (std::isnan(log_denominator)) log_denominator = nwj ? 1 : log_mean;
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const double ds =
            i == j ? 1 / static_cast<double>(n) : -std::exp(s[i * n + j] - log_denominator) / pairs;
        dlog[0] += ds * s[i * n + j];
        for (std::int64_t k = 0; k < d; ++k) {
          da[i * d + k] += scale * ds * b[j * d + k];
          db[j * d + k] += scale * ds * a[i * d + k];
        }
      }
    }
    result = {mean - (nwj ? std::exp(log_mean - 1) : log_mean), {da, db, dlog}};
  }
};

template <class T>
std::pair<Tensor, Tensor> inputs(std::int64_t n, std::int64_t d) {
  return {tensor<T>(normals(n * d, 1, 0.5), {n, d}), tensor<T>(normals(n * d, 2, 0.5), {n, d})};
}

TYPED_TEST(PairBoundsTest, AgreeWithAllScoresWrittenOut) {
  using T = TypeParam;
  for_each_isa([] {
    for (const auto& [n, d] : {std::pair{2, 3}, {7, 5}, {33, 16}, {131, 20}, {290, 7}}) {
      const auto [a, b] = inputs<T>(n, d);
      const Tensor log_scale = tensor<T>({0.3}, {});
      const double scale = std::exp(log_scale.item()) / 2;
      const auto what = fmt::format("[{}, {}]", n, d);
      expect_agrees<T>(evaluate({a, b, log_scale},
                                [](auto x) {
                                  return nwj(x[0], x[1], {Critic::dot, 2, x[2]});
                                }),
                       Naive(Bound::nwj, a, b, scale).result, kFactor, what + " nwj");
      expect_agrees<T>(evaluate({a, b, log_scale},
                                [](auto x) {
                                  return donsker_varadhan(x[0], x[1], {Critic::dot, 2, x[2]});
                                }),
                       Naive(Bound::donsker_varadhan, a, b, scale).result, kFactor,
                       what + " donsker_varadhan");
    }
  });
}

TYPED_TEST(PairBoundsTest, TheAverageMovesAndDividesTheGradient) {
  using T = TypeParam;
  const ExpAverage average = ExpAverage::fresh(0.25);
  double expected = 0;  // of exp(score)
  for (int step = 0; step < 3; ++step) {
    const Tensor a = tensor<T>(normals(9 * 3, 10 + step), {9, 3}),
                 b = tensor<T>(normals(9 * 3, 20 + step), {9, 3});
    const double own = std::exp(Naive(Bound::donsker_varadhan, a, b, 1).log_mean);
    expected = step == 0 ? own : 0.75 * expected + 0.25 * own;
    auto naive = Naive(Bound::donsker_varadhan, a, b, 1, std::log(expected)).result;
    naive.gradients.pop_back();
    expect_agrees<T>(
        evaluate({a, b}, [&](auto x) { return donsker_varadhan(x[0], x[1], {}, average); }), naive,
        kFactor, fmt::format("step {}", step));
    EXPECT_NEAR(average.logarithm.item(), std::log(expected), 1e-5);
  }
}

/// Cosines below a temperature near 0: scores of 1e4.
TYPED_TEST(PairBoundsTest, HugeScoresAreFiniteToDonskerVaradhan) {
  const auto [a, b] = inputs<TypeParam>(40, 6);
  const auto at = evaluate({a, b}, [](auto x) {
    return donsker_varadhan(x[0], x[1], {Critic::cosine, 1e-4});
  });
  EXPECT_TRUE(std::isfinite(static_cast<double>(at.value)));
  for (const Values& gradient : at.gradients) {
    for (const double g : gradient) ASSERT_TRUE(std::isfinite(g));
  }
}

/// Equal scores everywhere: nothing is known of a pair, and the bounds are 0 and s - exp(s - 1).
TYPED_TEST(PairBoundsTest, IdenticalRows) {
  const Tensor x = Tensor::full({70, 4}, 0.5, dtype_of<TypeParam>);
  const auto dv = evaluate({x, x}, [](auto z) { return donsker_varadhan(z[0], z[1]); });
  const auto of_nwj = evaluate({x, x}, [](auto z) { return nwj(z[0], z[1]); });
  EXPECT_NEAR(static_cast<double>(dv.value), 0, 1e-6);
  EXPECT_NEAR(static_cast<double>(of_nwj.value), 0, 1e-6);  // 4 0.5^2 = 1
  for (const double g : dv.gradients[0]) EXPECT_NEAR(g, 0, 1e-7);
}

/// NWJ is below Donsker-Varadhan: ln x <= x / e.
TYPED_TEST(PairBoundsTest, NwjIsBelowDonskerVaradhan) {
  const auto [a, b] = inputs<TypeParam>(50, 6);
  for (const double temperature : {0.5, 1.0, 3.0}) {
    const CriticOptions scores{Critic::dot, temperature};
    const auto below = evaluate({a, b}, [&](auto x) { return nwj(x[0], x[1], scores); });
    const auto above =
        evaluate({a, b}, [&](auto x) { return donsker_varadhan(x[0], x[1], scores); });
    EXPECT_LE(below.value, above.value + 1e-6L);
  }
}

/// Gaussian pairs of correlation r, and the critic that makes the bounds tight, ln p(x, y) / (p(x)
/// p(y)), which is a dot product of features: each estimate is within its own spread of
/// -k / 2 ln(1 - r^2) = 0.446 nats (its standard deviation is about 0.02).
TYPED_TEST(PairBoundsTest, FindTheMutualInformationOfGaussians) {
  const std::int64_t n = 3000, k = 2, d = k + 2;
  const double r = 0.6, rest = 1 - r * r, information = -0.5 * k * std::log(rest);
  const Values x = normals(n * k, 1), noise = normals(n * k, 2);
  Values a(n * d), b(n * d);
  for (std::int64_t i = 0; i < n; ++i) {
    double of_x = information, of_y = 0;
    for (std::int64_t f = 0; f < k; ++f) {
      const double u = x[i * k + f], v = r * u + std::sqrt(rest) * noise[i * k + f];
      a[i * d + f] = r / rest * u;
      b[i * d + f] = v;
      of_x -= r * r / (2 * rest) * u * u;
      of_y -= r * r / (2 * rest) * v * v;
    }
    a[i * d + k] = of_x, a[i * d + k + 1] = 1;
    b[i * d + k] = 1, b[i * d + k + 1] = of_y;
  }
  const Variable tight(tensor<TypeParam>(a, {n, d})), other(tensor<TypeParam>(b, {n, d}));
  EXPECT_NEAR(donsker_varadhan(tight, other).value().item(), information, 0.05);
  EXPECT_NEAR(std::log(n) - info_nce(tight, other, {CriticOptions{}}).value().item(), information,
              0.05);
  for (std::int64_t i = 0; i < n; ++i) a[i * d + k] += 1;  // NWJ is tight at 1 + ln of the ratio
  const Variable one_more(tensor<TypeParam>(a, {n, d}));
  EXPECT_NEAR(nwj(one_more, other).value().item(), information, 0.05);
}

TYPED_TEST(PairBoundsTest, SameBitsForAnyThreadCount) {
  const auto [a, b] = inputs<TypeParam>(600, 9);
  expect_same_bits_for_any_thread_count([&, &a = a, &b = b] {
    const ExpAverage average = ExpAverage::fresh(0.5);
    Values all = flatten(
        evaluate({a, b}, [&](auto x) { return donsker_varadhan(x[0], x[1], {}, average); }));
    for (const double x : flatten(evaluate({a, b}, [](auto z) { return nwj(z[0], z[1]); }))) {
      all.push_back(x);
    }
    return all;
  });
}

/// On the host model of CUDA: three steps one by one, and as replays of one graph. The average is
/// that of three steps in both.
TEST(PairBoundsGraph, TheAverageGoesOnFromReplayToReplay) {
  const Device simt{DeviceType::simt};
  const auto values = [&](int step) {
    return tensor<float>(normals(70 * 5, 1 + step, 0.5), {70, 5}).to(simt);
  };
  const auto step = [](const Tensor& input, const ExpAverage& average) {
    const Variable x(input, true);
    backward(donsker_varadhan(x, x, {}, average));
    return x.gradient();
  };
  const ExpAverage one_by_one = ExpAverage::fresh(0.3, simt),
                   replayed = ExpAverage::fresh(0.3, simt);
  Tensor input = values(5), gradient;
  Graph graph(simt);
  graph.capture([&] { gradient = step(input, replayed); });
  for (int i = 0; i < 3; ++i) {
    input.copy_from(values(i));
    graph.replay();
    EXPECT_EQ(gradient.to_vector(), step(values(i), one_by_one).to_vector()) << i;
    EXPECT_EQ(replayed.logarithm.item(), one_by_one.logarithm.item()) << i;
  }
}

TEST(PairBoundsErrors, NameShapesAndValues) {
  const Variable a(Tensor::zeros({3, 4})), one(Tensor::zeros({1, 4}));
  expect_usage_error([&] { nwj(one, one); }, "two samples or more");
  expect_usage_error([&] { donsker_varadhan(one, one); }, "two samples or more");
  expect_usage_error([&] { nwj(a, Variable(Tensor::zeros({3, 5}))); }, "got f32[3, 4] on cpu");
  expect_usage_error([&] { donsker_varadhan(a, a, {}, {Tensor::zeros({1})}); },
                     "the average must be one f64 on cpu, got f32[1] on cpu");
  expect_usage_error([&] { donsker_varadhan(a, a, {}, ExpAverage::fresh(0)); }, "rate");
}

/// In bf16, the formula of the rounded rows, and gradients within the rounding of dS.
TEST(PairBoundsBf16, AgreeWithTheScoresOfRoundedRows) {
  const auto [a, b] = inputs<float>(131, 20);
  const auto rounded = [](const Tensor& x) {
    Tensor out = x.clone();
    for (float& value : out.mutable_span<float>()) value = static_cast<float>(BFloat16(value));
    return out;
  };
  for (const Device device : {Device{}, Device{DeviceType::simt}}) {
    for (const Bound bound : {Bound::nwj, Bound::donsker_varadhan}) {
      const Naive expected(bound, rounded(a), rounded(b), 0.5);
      const PrecisionScope scope(Precision::bf16);
      const auto actual = evaluate({a.to(device), b.to(device)}, [&](auto x) {
        return bound == Bound::nwj ? nwj(x[0], x[1], {Critic::dot, 2})
                                   : donsker_varadhan(x[0], x[1], {Critic::dot, 2});
      });
      EXPECT_NEAR(actual.value, expected.result.value, 1e-5);
      for (std::size_t g = 0; g < 2; ++g) {
        const Values& gradient = expected.result.gradients[g];
        for (std::size_t i = 0; i < gradient.size(); ++i) {
          ASSERT_NEAR(actual.gradients[g][i], kCotangent * gradient[i], 0x1p-8 * 4 / 131) << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace cmir::losses
