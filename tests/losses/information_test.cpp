#include "losses/information.h"

#include "tests/losses/loss_test.h"

#include "core/permutation.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class InformationTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(InformationTest, Scalars);

/// 1e-5, the bound to be held in f32, and in f64 as many of its own eps.
template <class T>
constexpr double kFactor = 1e-5 / std::numeric_limits<float>::epsilon();

/// mu, logvar, y [n, d] with y about mu, as of a trained q.
template <class T>
std::vector<Tensor> gaussian_inputs(std::int64_t n, std::int64_t d) {
  Values mu = normals(n * d, 1), logvar = normals(n * d, 2, 0.3), y = normals(n * d, 3);
  for (std::int64_t i = 0; i < n * d; ++i) y[i] = mu[i] + 0.5 * y[i];
  return {tensor<T>(mu, {n, d}), tensor<T>(logvar, {n, d}), tensor<T>(y, {n, d})};
}

/// weight(i, j) ln q(y_j|x_i), summed, with the gradients of mu, logvar and y.
Evaluated weighted_densities(const std::vector<Tensor>& inputs,
                             const std::function<double(std::int64_t, std::int64_t)>& weight) {
  const Values mu = inputs[0].to_vector(), logvar = inputs[1].to_vector(),
               y = inputs[2].to_vector();
  const std::int64_t n = inputs[0].size(0), d = inputs[0].size(1);
  Evaluated out{0, {Values(n * d), Values(n * d), Values(n * d)}};
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      const double c = weight(i, j);
      for (std::int64_t k = 0; k < d; ++k) {
        const double w = std::exp(-logvar[i * d + k]), apart = y[j * d + k] - mu[i * d + k];
        out.value -= 0.5 * c * (w * apart * apart + logvar[i * d + k] + std::log(2 * M_PI));
        out.gradients[0][i * d + k] += c * w * apart;
        out.gradients[1][i * d + k] += 0.5 * c * (w * apart * apart - 1);
        out.gradients[2][j * d + k] -= c * w * apart;
      }
    }
  }
  return out;
}

const std::vector<std::pair<std::int64_t, std::int64_t>> kShapes = {
    {2, 3}, {7, 1}, {17, 33}, {100, 20}, {131, 64}};

TYPED_TEST(InformationTest, ClubAgreesWithAllPairs) {
  using T = TypeParam;
  for (const auto& [n, d] : kShapes) {
    const auto inputs = gaussian_inputs<T>(n, d);
    const double each = 1.0 / static_cast<double>(n);
    expect_agrees<T>(
        evaluate(inputs, [](auto x) { return club(x[0], x[1], x[2]); }),
        weighted_densities(inputs, [&](auto i, auto j) { return each * ((i == j) - each); }),
        kFactor<T>, fmt::format("club [{}, {}]", n, d));
  }
}

TYPED_TEST(InformationTest, ClubMeanIsClubWithUnitVariances) {
  using T = TypeParam;
  for (const auto& [n, d] : kShapes) {
    auto inputs = gaussian_inputs<T>(n, d);
    inputs[1] = Tensor::zeros({n, d}, dtype_of<T>);
    const auto whole = evaluate(inputs, [](auto x) { return club(x[0], x[1], x[2]); });
    expect_agrees<T>(
        evaluate({inputs[0], inputs[2]}, [](auto x) { return club_mean(x[0], x[1]); }),
        {whole.value,
         {weighted_densities(inputs, [&](auto i, auto j) { return ((i == j) - 1.0 / n) / n; })
              .gradients[0],
          weighted_densities(inputs, [&](auto i, auto j) { return ((i == j) - 1.0 / n) / n; })
              .gradients[2]}},
        kFactor<T>, fmt::format("club_mean [{}, {}]", n, d));
  }
}

TYPED_TEST(InformationTest, ClubSampleAgreesWithItsPairs) {
  using T = TypeParam;
  const RandomStream stream{.seed = 4, .step = 1};  // where the two of the first shape swap
  for (const auto& [n, d] : kShapes) {
    const auto inputs = gaussian_inputs<T>(n, d);
    const RandomPermutation permutation(stream, static_cast<std::uint32_t>(n));
    expect_agrees<T>(
        evaluate(inputs, [&](auto x) { return club_sample(x[0], x[1], x[2], stream); }),
        weighted_densities(inputs,
                           [&, n = n](std::int64_t i, std::int64_t j) {
                             const auto negative = permutation(static_cast<std::uint32_t>(i));
                             return ((i == j) - (negative == j ? 1.0 : 0.0)) /
                                    static_cast<double>(n);
                           }),
        kFactor<T>, fmt::format("club_sample [{}, {}]", n, d));
  }
}

TYPED_TEST(InformationTest, GaussianNllAgreesWithTheFormula) {
  using T = TypeParam;
  for (const auto& [n, d] : kShapes) {
    const auto inputs = gaussian_inputs<T>(n, d);
    expect_agrees<T>(
        evaluate(inputs, [](auto x) { return gaussian_nll(x[0], x[1], x[2]); }),
        weighted_densities(
            inputs, [n = n](auto i, auto j) { return i == j ? -1.0 / static_cast<double>(n) : 0; }),
        kFactor<T>, fmt::format("gaussian_nll [{}, {}]", n, d));
  }
}

TYPED_TEST(InformationTest, OneSampleHasNoInformation) {
  const auto at =
      evaluate(gaussian_inputs<TypeParam>(1, 5), [](auto x) { return club(x[0], x[1], x[2]); });
  EXPECT_EQ(at.value, 0);
  for (const Values& gradient : at.gradients) EXPECT_LE(largest(gradient), 1e-14);
}

TEST(InformationErrors, NameShapes) {
  const Variable a(Tensor::zeros({3, 4})), b(Tensor::zeros({3, 5}));
  expect_usage_error([&] { club(a, a, b); }, "got f32[3, 4] on cpu and f32[3, 5] on cpu");
  expect_usage_error([&] { club_mean(a, b); }, "f32[3, 5]");
  expect_usage_error([&] { gaussian_nll(a, b, a); }, "f32[3, 5]");
  expect_usage_error([&] { club_sample(b, a, a, {}); }, "f32[3, 5]");
}

}  // namespace
}  // namespace cmir::losses
