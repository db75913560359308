#include "losses/hsic.h"

#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class HsicTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(HsicTest, Scalars);

/// The mean over quadruples of samples of K_ij (L_ij + L_kl - 2 L_ik): the definition, for all
/// indices (biased) or for distinct ones (unbiased), with one feature a side.
double over_quadruples(const Values& x, const Values& y, const HsicOptions& options) {
  const std::size_t n = x.size();
  const auto k = [&](std::size_t i, std::size_t j) {
    return std::exp(-options.gamma_x * (x[i] - x[j]) * (x[i] - x[j]));
  };
  const auto l = [&](std::size_t i, std::size_t j) {
    return std::exp(-options.gamma_y * (y[i] - y[j]) * (y[i] - y[j]));
  };
  double sum = 0, count = 0;
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t p = 0; p < n; ++p) {
        for (std::size_t q = 0; q < n; ++q) {
          const bool distinct = i != j && i != p && i != q && j != p && j != q && p != q;
          if (options.unbiased && !distinct) continue;
          sum += k(i, j) * (l(i, j) + l(p, q) - 2 * l(i, p));
          count += 1;
        }
      }
    }
  }
  return sum / count;
}

/// Its derivatives by x (side 0) or y, by central differences.
Values slopes_of(const Values& x, const Values& y, int side, const HsicOptions& options) {
  Values slopes;
  for (std::size_t i = 0; i < x.size(); ++i) {
    double ends[2];
    for (const int end : {0, 1}) {
      Values moved[2] = {x, y};
      moved[side][i] += end == 0 ? -1e-5 : 1e-5;
      ends[end] = over_quadruples(moved[0], moved[1], options);
    }
    slopes.push_back((ends[1] - ends[0]) / 2e-5);
  }
  return slopes;
}

TYPED_TEST(HsicTest, IsTheMeanOverQuadruples) {
  using T = TypeParam;
  for_each_isa([] {
    for (const int n : {1, 2, 4, 9, 17}) {
      for (const bool unbiased : {false, true}) {
        if (unbiased && n < 4) continue;
        Values second = normals(n, 2);
        const Values first = normals(n, 1);
        for (int i = 0; i < n; ++i) second[i] = 0.3 * second[i] + first[i] * first[i];
        const Tensor x = tensor<T>(first, {n, 1}), y = tensor<T>(second, {n, 1});
        const HsicOptions options{0.7, 1.3, unbiased};
        const auto actual = evaluate({x, y}, [&](auto z) { return hsic(z[0], z[1], options); });
        const double expected = over_quadruples(x.to_vector(), y.to_vector(), options);
        EXPECT_NEAR(static_cast<double>(actual.value), expected,
                    (std::is_same_v<T, float> ? 1e-5 : 1e-13) * std::max(std::abs(expected), 1e-2))
            << n << ' ' << unbiased;
        for (int side = 0; n <= 9 && side < 2; ++side) {
          const Values slopes = slopes_of(x.to_vector(), y.to_vector(), side, options);
          const double bound = std::max(largest(slopes), 1e-2) *
                               (std::is_same_v<T, float> ? 1e-5 : 1e-7);  // by differences
          for (int i = 0; i < n; ++i) {
            EXPECT_NEAR(actual.gradients[side][i], kCotangent * slopes[i], 1.5 * bound)
                << n << ' ' << unbiased << ' ' << side << ' ' << i;
          }
        }
      }
    }
  });
}

/// The unbiased estimate of independent samples is near 0, the biased one is above it, and both see
/// a dependence without correlation.
TEST(Hsic, SeesDependence) {
  const int n = 400;
  const Values first = normals(n, 1), other = normals(n, 2);
  Values square(n);
  for (int i = 0; i < n; ++i) square[i] = first[i] * first[i];
  const auto estimate = [&](const Values& y, bool unbiased) {
    return hsic(Variable(Tensor::from(first, {n, 1})), Variable(Tensor::from(y, {n, 1})),
                {0.5, 0.5, unbiased})
        .value()
        .item();
  };
  EXPECT_NEAR(estimate(other, true), 0, 1e-3);
  EXPECT_GT(estimate(other, false), estimate(other, true));
  EXPECT_GT(estimate(square, true), 1e-2);
}

TYPED_TEST(HsicTest, IdenticalRowsDependOnNothingAndNaNGivesNaN) {
  using T = TypeParam;
  const Tensor same = tensor<T>(Values(12, 0.7), {6, 2}), y = tensor<T>(normals(6, 1), {6, 1});
  for (const bool unbiased : {false, true}) {
    for (const double v : flatten(evaluate({same, y}, [&](auto z) {
           return hsic(z[0], z[1], {1, 1, unbiased});
         }))) {
      EXPECT_NEAR(v, 0, 1e-6);
    }
  }
  Values bad(6, 1.0);
  bad[3] = kNaN;
  EXPECT_TRUE(std::isnan(hsic(Variable(same), Variable(tensor<T>(bad, {6, 1}))).value().item()));
}

TYPED_TEST(HsicTest, SameBitsForAnyThreadCount) {
  const Tensor x = tensor<TypeParam>(normals(101 * 7, 1), {101, 7}),
               y = tensor<TypeParam>(normals(101 * 2, 2), {101, 2});
  expect_same_bits_for_any_thread_count([&] {
    return flatten(evaluate({x, y}, [](auto z) { return hsic(z[0], z[1], {0.1, 0.2}); }));
  });
}

TEST(HsicErrors, NameTheShapesAndTheRemedy) {
  const Variable x(Tensor::zeros({3, 2})), y(Tensor::zeros({4, 2}));
  expect_usage_error([&] { hsic(x, y); }, "same samples");
  expect_usage_error([&] { hsic(x, x, {1, 1, true}); }, "at least 4 samples; got");
  expect_usage_error([&] { hsic(x, x, {0, 1}); }, "above 0, got 0");
}

}  // namespace
}  // namespace cmir::losses
