#include "losses/decorrelation.h"

#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class DecorrelationTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(DecorrelationTest, Scalars);

/// z [n, d] normalised along one axis, and the way back for a gradient, one group of elements after
/// the other.
struct Normalised {
  Values y;
  std::vector<std::vector<std::int64_t>> groups;  // the elements that share a mean
  Values std;                                     // per group
  double divisor;

  Normalised(const Values& z, std::int64_t n, std::int64_t d, const DecorrelationOptions& o)
      : y(z.size()) {
    const bool rows = o.axis == NormalisationAxis::per_sample;
    const std::int64_t length = rows ? d : n;
    divisor = static_cast<double>(o.unbiased_std ? std::max<std::int64_t>(length - 1, 1) : length);
    for (std::int64_t g = 0; g < (rows ? n : d); ++g) {
      auto& group = groups.emplace_back();
      for (std::int64_t k = 0; k < length; ++k) group.push_back(rows ? g * d + k : k * d + g);
      double mean = 0, squares = 0;
      for (auto i : group) mean += z[i] / static_cast<double>(length);
      for (auto i : group) squares += (z[i] - mean) * (z[i] - mean);
      std.push_back(std::sqrt(squares / divisor + o.epsilon));
      for (auto i : group) y[i] = (z[i] - mean) / std.back();
    }
  }
  Values back(const Values& gradient) const {
    Values dz(y.size());
    for (std::size_t g = 0; g < groups.size(); ++g) {
      double mean = 0, along = 0;
      for (auto i : groups[g]) {
        mean += gradient[i] / static_cast<double>(groups[g].size());
        along += gradient[i] * y[i] / divisor;
      }
      for (auto i : groups[g]) dz[i] = (gradient[i] - mean - y[i] * along) / std[g];
    }
    return dz;
  }
};

/// The N x N matrix written out, whatever the shape.
Evaluated naive_decorrelation(const Values& z_invariant, const Values& z_spurious, std::int64_t n,
                              std::int64_t d, const DecorrelationOptions& o) {
  const Normalised a(z_invariant, n, d, o), b(z_spurious, n, d, o);
  const double scale =
      o.scale == DecorrelationScale::none
          ? 1.0
          : 1.0 / static_cast<double>(o.scale == DecorrelationScale::by_features ? d : n);
  Values weighted(n * n);
  double square = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double dot = 0;
      for (std::int64_t k = 0; k < d; ++k) dot += a.y[i * d + k] * b.y[j * d + k];
      const double w = i == j ? 1 : o.alpha;
      square += w * w * dot * dot;
      weighted[i * n + j] = w * w * dot;
    }
  }
  const double norm = std::sqrt(square), factor = norm > 0 ? scale / norm : 0;
  Values da(n * d), db(n * d);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t k = 0; k < d; ++k) {
        da[i * d + k] += factor * weighted[i * n + j] * b.y[j * d + k];
        db[j * d + k] += factor * weighted[i * n + j] * a.y[i * d + k];
      }
    }
  }
  return {scale * norm, {a.back(da), b.back(db)}};
}

/// The gram form's products cancel, so f32 is given more room there.
template <class T>
void compare(const Values& invariant, const Values& spurious, std::int64_t n, std::int64_t d,
             const DecorrelationOptions& options) {
  const Tensor zi = tensor<T>(invariant, {n, d}), zs = tensor<T>(spurious, {n, d});
  expect_agrees<T>(evaluate({zi, zs}, [&](auto z) { return decorrelation(z[0], z[1], options); }),
                   naive_decorrelation(zi.to_vector(), zs.to_vector(), n, d, options), 300,
                   fmt::format("[{}, {}], alpha {}, axis {}, unbiased {}, scale {}", n, d,
                               options.alpha, static_cast<int>(options.axis), options.unbiased_std,
                               static_cast<int>(options.scale)),
                   1e-3);
}

TYPED_TEST(DecorrelationTest, AgreesWithTheMatrixWrittenOut) {
  for_each_isa([] {
    for (const auto& [n, d] :
         {std::pair{4, 3}, {3, 4}, {7, 13}, {13, 7}, {17, 17}, {31, 67}, {101, 31}}) {
      for (const double alpha : {1.0, 0.1, 0.01}) {
        for (const auto axis : {NormalisationAxis::per_sample, NormalisationAxis::per_feature}) {
          compare<TypeParam>(normals(n * d, 1), normals(n * d, 2), n, d,
                             {.alpha = alpha, .axis = axis});
        }
      }
    }
  });
}

TYPED_TEST(DecorrelationTest, EverySwitch) {
  for (const auto& [n, d] : {std::pair{5, 11}, {11, 5}}) {
    for (const bool unbiased : {false, true}) {
      for (const auto scale : {DecorrelationScale::none, DecorrelationScale::by_features,
                               DecorrelationScale::by_samples}) {
        for (const double epsilon : {1e-12, 0.1}) {
          compare<TypeParam>(
              normals(n * d, 3), normals(n * d, 4), n, d,
              {.alpha = 0.5, .unbiased_std = unbiased, .epsilon = epsilon, .scale = scale});
        }
      }
    }
  }
}

TYPED_TEST(DecorrelationTest, PaperShapes) {
  for (const auto& [n, d] : {std::pair{48, 150}, {50, 100}}) {
    compare<TypeParam>(normals(n * d, 1), normals(n * d, 2), n, d, {});
  }
}

TYPED_TEST(DecorrelationTest, OneSampleOrOneFeature) {
  using T = TypeParam;
  compare<T>(normals(13, 1), normals(13, 2), 1, 13, {});
  for (const auto& [n, d, axis] : {std::tuple{13, 1, NormalisationAxis::per_sample},
                                   {1, 13, NormalisationAxis::per_feature},
                                   {1, 1, NormalisationAxis::per_sample}}) {
    for (const double epsilon : {1e-12, 0.0}) {
      const Tensor zi = tensor<T>(normals(n * d, 1), {n, d}),
                   zs = tensor<T>(normals(n * d, 2), {n, d});
      const auto at = evaluate({zi, zs}, [&](auto z) {
        return decorrelation(z[0], z[1], {.axis = axis, .epsilon = epsilon});
      });
      EXPECT_EQ(at.value, 0);
      EXPECT_EQ(largest(at.gradients[0]), 0);
      EXPECT_EQ(largest(at.gradients[1]), 0);
    }
  }
}

TYPED_TEST(DecorrelationTest, OrthogonalInputsHaveAFiniteGradient) {
  using T = TypeParam;
  for (const std::int64_t n : {3, 40}) {  // cross form, gram form
    Values zi(n * 4), zs(n * 4);
    for (std::int64_t i = 0; i < n; ++i) {
      const double x = 0.1 + 0.37 * static_cast<double>(i);
      zi[4 * i] = x;
      zi[4 * i + 1] = -x;
      zs[4 * i + 2] = -x;
      zs[4 * i + 3] = x;
    }
    for (const double alpha : {1.0, 0.1}) {
      const auto at = evaluate({tensor<T>(zi, {n, 4}), tensor<T>(zs, {n, 4})},
                               [&](auto z) { return decorrelation(z[0], z[1], {.alpha = alpha}); });
      EXPECT_NEAR(at.value, 0, 1e-3);
      for (const Values& gradient : at.gradients) {
        for (double g : gradient) ASSERT_TRUE(std::abs(g) <= 1e3) << g;
      }
    }
  }
}

TYPED_TEST(DecorrelationTest, ConstantRowsContributeNothing) {
  using T = TypeParam;
  for (const std::int64_t n : {4, 40}) {
    const std::int64_t d = 7;
    Values zi = normals(n * d, 1);
    std::fill_n(zi.begin() + d, d, 0.1);
    for (const double epsilon : {1e-8, 0.0}) {
      const auto at =
          evaluate({tensor<T>(zi, {n, d}), tensor<T>(normals(n * d, 2), {n, d})},
                   [&](auto z) { return decorrelation(z[0], z[1], {.epsilon = epsilon}); });
      EXPECT_GT(at.value, 0);
      for (double g : at.gradients[0]) ASSERT_TRUE(std::isfinite(g));
    }
  }
}

TYPED_TEST(DecorrelationTest, DoesNotSeeScaleOrShift) {
  using T = TypeParam;
  for (const auto& [n, d] : {std::pair{7, 13}, {13, 7}}) {
    const auto value = [&, n = n, d = d](double scale, double shift, std::uint64_t seed) {
      Values z = normals(n * d, seed, scale);
      for (double& x : z) x += shift;
      const auto loss = [](auto x) { return decorrelation(x[0], x[1], {.epsilon = 0}); };
      return evaluate({tensor<T>(z, {n, d}), tensor<T>(normals(n * d, 9), {n, d})}, loss).value;
    };
    const double plain = value(1, 0, 1);
    EXPECT_NEAR(value(1e30, 0, 1), plain, 1e-4 * plain);
    EXPECT_NEAR(value(1e-30, 0, 1), plain, 1e-4 * plain);
    EXPECT_NEAR(value(1, 100, 1), plain, 1e-3 * plain);
  }
}

TYPED_TEST(DecorrelationTest, NaNGivesNaN) {
  for (const auto& [n, d] : {std::pair{5, 11}, {11, 5}}) {
    Values z = normals(n * d, 1);
    z[d + 2] = kNaN;
    const Variable bad(tensor<TypeParam>(z, {n, d})),
        good(tensor<TypeParam>(normals(n * d, 2), {n, d}));
    for (const double alpha : {1.0, 0.1}) {
      EXPECT_TRUE(std::isnan(decorrelation(bad, good, {.alpha = alpha}).value().item()));
      EXPECT_TRUE(std::isnan(decorrelation(good, bad, {.alpha = alpha}).value().item()));
    }
  }
}

TYPED_TEST(DecorrelationTest, SameBitsForAnyThreadCount) {
  for (const auto& [n, d] : {std::pair{150, 190}, {1000, 67}}) {
    const Tensor zi = tensor<TypeParam>(normals(n * d, 1), {n, d}),
                 zs = tensor<TypeParam>(normals(n * d, 2), {n, d});
    for (const auto axis : {NormalisationAxis::per_sample, NormalisationAxis::per_feature}) {
      expect_same_bits_for_any_thread_count([&] {
        const auto loss = [&](auto z) {
          return decorrelation(z[0], z[1], {.alpha = 0.1, .axis = axis});
        };
        return flatten(evaluate({zi, zs}, loss));
      });
    }
  }
}

TEST(DecorrelationErrors, NameShapesAndValues) {
  const Variable a(Tensor::zeros({3, 4})), b(Tensor::zeros({3, 5}));
  expect_usage_error([&] { decorrelation(a, b); }, "got f32[3, 4] on cpu and f32[3, 5] on cpu");
  expect_usage_error([&] { decorrelation(a, a, {.alpha = 0}); }, "alpha must be in (0, 1], got 0");
  expect_usage_error([&] { decorrelation(a, a, {.epsilon = -1}); }, "epsilon");
}

}  // namespace
}  // namespace cmir::losses
