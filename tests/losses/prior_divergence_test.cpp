#include "losses/prior_divergence.h"

#include <gmock/gmock.h>

#include "tests/losses/loss_test.h"
#include "tests/message_of.h"

namespace cmir::losses {
namespace {

using namespace testing;

TEST(PriorDivergence, IsTheMeanDivergenceOfTheSamples) {
  for (const auto& [n, d] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {1, 9}, {17, 33}}) {
    const Values mu = normals(n * d, 1), logvar = normals(n * d, 2, 0.3);
    Evaluated expected{0, {Values(n * d), Values(n * d)}};
    for (std::int64_t i = 0; i < n * d; ++i) {
      const double each = 0.5 / static_cast<double>(n);
      expected.value += each * (mu[i] * mu[i] + std::exp(logvar[i]) - 1 - logvar[i]);
      expected.gradients[0][i] = 2 * each * mu[i];
      expected.gradients[1][i] = each * (std::exp(logvar[i]) - 1);
    }
    expect_agrees<float>(evaluate({tensor<float>(mu, {n, d}), tensor<float>(logvar, {n, d})},
                                  [](auto x) { return prior_divergence(x[0], x[1]); }),
                         expected, 80, fmt::format("[{}, {}]", n, d));
  }
}

TEST(PriorDivergence, RefusesWhatIsNotTwoMatricesOfOneShape) {
  const auto with = [](const Shape& mu, const Shape& logvar) {
    return message_of(
        [&] { prior_divergence(Variable(Tensor::zeros(mu)), Variable(Tensor::zeros(logvar))); });
  };
  for (const auto& message : {with({2, 3}, {3, 2}), with({0, 3}, {0, 3}), with({3}, {3})})
    EXPECT_THAT(message,
                ::testing::HasSubstr("prior_divergence: needs mu and logvar of one shape"));
}

}  // namespace
}  // namespace cmir::losses
