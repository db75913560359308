#include "losses/rex.h"

#include "losses/prediction.h"
#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class RexTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RexTest, Scalars);

/// Samples dealt to `environments` in turn, of which the last stays empty.
std::vector<std::int32_t> labels_of(std::int64_t samples, std::int64_t environments) {
  std::vector<std::int32_t> labels(samples);
  for (std::int64_t i = 0; i < samples; ++i) {
    labels[i] = static_cast<std::int32_t>(i * i % std::max<std::int64_t>(1, environments - 1));
  }
  return labels;
}

struct Risks {
  Values mean, size;
};
Risks risks_of(const Values& losses, const std::vector<std::int32_t>& labels,
               std::int64_t environments) {
  Risks risks{Values(environments), Values(environments)};
  for (std::size_t i = 0; i < losses.size(); ++i) {
    risks.mean[labels[i]] += losses[i];
    risks.size[labels[i]] += 1;
  }
  for (std::int64_t e = 0; e < environments; ++e) risks.mean[e] /= risks.size[e];
  return risks;
}

/// Each environment's weight in the value, to the gradient of its samples.
Evaluated spread(double value, const Risks& risks, const Values& weights,
                 const std::vector<std::int32_t>& labels) {
  Evaluated out{value, {Values(labels.size())}};
  for (std::size_t i = 0; i < labels.size(); ++i) {
    out.gradients[0][i] = weights[labels[i]] / risks.size[labels[i]];
  }
  return out;
}

Evaluated naive_variance(const Values& losses, const std::vector<std::int32_t>& labels,
                         std::int64_t environments) {
  const Risks risks = risks_of(losses, labels, environments);
  double count = 0, mean = 0, value = 0;
  for (std::int64_t e = 0; e < environments; ++e) {
    if (risks.size[e] > 0) count += 1;
  }
  for (std::int64_t e = 0; e < environments; ++e) {
    if (risks.size[e] > 0) mean += risks.mean[e] / count;
  }
  Values weights(environments);
  for (std::int64_t e = 0; e < environments; ++e) {
    if (risks.size[e] == 0) continue;
    value += (risks.mean[e] - mean) * (risks.mean[e] - mean) / count;
    weights[e] = 2 * (risks.mean[e] - mean) / count;
  }
  return spread(value, risks, weights, labels);
}

/// The maximum over the corners of the set of weights: all at the minimum but for one environment.
Evaluated naive_maximum(const Values& losses, const std::vector<std::int32_t>& labels,
                        std::int64_t environments, double minimum_weight) {
  const Risks risks = risks_of(losses, labels, environments);
  double count = 0;
  for (const double size : risks.size) count += size > 0 ? 1 : 0;
  Evaluated best;
  bool any = false;
  for (std::int64_t corner = 0; corner < environments; ++corner) {
    if (risks.size[corner] == 0) continue;
    Values weights(environments);
    double value = 0;
    for (std::int64_t e = 0; e < environments; ++e) {
      if (risks.size[e] == 0) continue;
      weights[e] = e == corner ? 1 - (count - 1) * minimum_weight : minimum_weight;
      value += weights[e] * risks.mean[e];
    }
    if (!any || value > static_cast<double>(best.value))
      best = spread(value, risks, weights, labels);
    any = true;
  }
  return best;
}

TYPED_TEST(RexTest, AgreesWithTheDefinitions) {
  using T = TypeParam;
  for_each_isa([] {
    for (const auto& [n, environments] :
         {std::pair<std::int64_t, std::int64_t>{1, 1}, {2, 2}, {7, 4}, {33, 7}, {2051, 12}}) {
      const auto labels = labels_of(n, environments);
      const auto groups = EnvironmentGroups::by_labels(Tensor::from(labels, {n}), environments);
      const Tensor losses = tensor<T>(normals(n, 1), {n});
      const auto what = fmt::format("n {} environments {}", n, environments);
      expect_agrees<T>(evaluate({losses}, [&](auto x) { return vrex(x[0], groups); }),
                       naive_variance(losses.to_vector(), labels, environments), 16, "vrex " + what,
                       1e-6);
      for (const double weight : {1.0 / static_cast<double>(environments), 0.0, -1.0, -30.0}) {
        expect_agrees<T>(evaluate({losses}, [&](auto x) { return mmrex(x[0], groups, weight); }),
                         naive_maximum(losses.to_vector(), labels, environments, weight), 16,
                         fmt::format("mmrex {} {}", weight, what), 1e-2);
      }
    }
  });
}

TYPED_TEST(RexTest, EqualRisksAndOneEnvironmentHaveNoVariance) {
  using T = TypeParam;
  const Tensor equal = tensor<T>({3, 3, 3, 3}, {4});
  for (const auto& groups :
       {EnvironmentGroups::blocks(1, 2), EnvironmentGroups::blocks(0, 4),
        EnvironmentGroups::by_offsets(Tensor::from<std::int64_t>({0, 0, 1, 4, 4}, {5}))}) {
    EXPECT_EQ(flatten(evaluate({equal}, [&](auto x) { return vrex(x[0], groups); })), Values(5));
    EXPECT_EQ(evaluate({equal}, [&](auto x) { return mmrex(x[0], groups, -1); }).value, 3);
  }
}

/// Large and nearly equal risks: the difference is that of the losses as given.
TYPED_TEST(RexTest, LargeLossesAndNaN) {
  using T = TypeParam;
  const EnvironmentGroups groups = EnvironmentGroups::blocks(1, 2);
  const Tensor large = tensor<T>({10000, 10000, 10000, 10001}, {4});
  EXPECT_EQ(vrex(Variable(large), groups).value().item(), 0.0625);  // (10000, 10000.5)
  for (int where = 0; where < 4; ++where) {
    Values losses{1, 2, 3, 4};
    losses[where] = kNaN;
    const Variable x(tensor<T>(losses, {4}));
    EXPECT_TRUE(std::isnan(vrex(x, groups).value().item()));
    EXPECT_TRUE(std::isnan(mmrex(x, groups, 0).value().item()));
  }
}

/// From logits to the penalty, by way of the losses of each sample.
TEST(Rex, TakesTheLossesOfEachSample) {
  const Variable z(Tensor::from(normals(18, 1), {6, 3}), true);
  const Tensor classes = Tensor::from<std::int32_t>({0, 1, 2, 0, 1, 2}, {6});
  const Variable losses = cross_entropy(z, classes, Reduction::none);
  const Variable penalty = vrex(losses, EnvironmentGroups::blocks(1, 3));
  backward(penalty);
  const auto l = losses.value().to_vector();
  const double difference = (l[0] + l[1] + l[2] - l[3] - l[4] - l[5]) / 3;
  EXPECT_NEAR(penalty.value().item(), difference * difference / 4, 1e-12);
  EXPECT_TRUE(z.gradient().defined());
}

TYPED_TEST(RexTest, SameBitsForAnyThreadCount) {
  const Tensor x = tensor<TypeParam>(normals(5001, 1), {5001});
  const auto groups = EnvironmentGroups::by_labels(Tensor::from(labels_of(5001, 6), {5001}), 6);
  expect_same_bits_for_any_thread_count(
      [&] { return flatten(evaluate({x}, [&](auto v) { return vrex(v[0], groups); })); });
}

TEST(RexErrors, NameTheRemedy) {
  const Variable x(Tensor::zeros({4}));
  const EnvironmentGroups groups = EnvironmentGroups::blocks(1, 2);
  expect_usage_error([&] { mmrex(x, groups, 0.6); }, "at most 1 / 2");
  expect_usage_error([&] { mmrex(x, groups, kNaN); }, "at most 1 / 2");
  expect_usage_error([&] { vrex(Variable(Tensor::zeros({4, 1})), groups); }, "one loss per sample");
  expect_usage_error([&] { vrex(Variable(Tensor::zeros({5})), groups); }, "have 4 samples");
}

}  // namespace
}  // namespace cmir::losses
