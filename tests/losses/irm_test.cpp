#include "losses/irm.h"

#include "losses/environments.h"
#include "losses/prediction.h"
#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;
using Wide = long double;
using Lists = std::vector<std::vector<std::int64_t>>;

template <class T>
class IrmTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(IrmTest, Scalars);

/// The samples of each environment.
Lists lists_of(const EnvironmentGroups& groups) {
  Lists lists(groups.count());
  const auto at = groups.offsets.span<std::int64_t>();
  for (std::int64_t e = 0; e < groups.count(); ++e) {
    for (std::int64_t k = at[e]; k < at[e + 1]; ++k) {
      lists[e].push_back(groups.order.defined() ? groups.order.span<std::int32_t>()[k] : k);
    }
  }
  return lists;
}

EnvironmentGroups labelled(std::int64_t samples, std::int64_t environments) {
  std::vector<std::int32_t> labels(samples);
  for (std::int64_t i = 0; i < samples; ++i) {
    labels[i] = static_cast<std::int32_t>((i * i + i / 3) % environments);
  }
  return EnvironmentGroups::by_labels(Tensor::from(labels, {samples}), environments);
}

/// The loss of sample i whose prediction is f[0 .. width): what is differentiated numerically.
using SampleLoss = std::function<Wide(std::int64_t i, const Wide* f)>;

/// f'(x) by fourth-order central differences.
template <class F>
Wide slope_at(Wide x, Wide step, const F& f) {
  return (8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))) / (12 * step);
}

/// d/dw of the mean loss of the samples `of` at w = 1, numerically.
Wide derivative_by_scale(const std::vector<Wide>& f, std::int64_t width,
                         const std::vector<std::int64_t>& of, const SampleLoss& loss) {
  return slope_at(1, 1e-3L, [&](Wide w) {
    Wide sum = 0;
    for (const std::int64_t i : of) {
      std::vector<Wide> scaled(f.begin() + i * width, f.begin() + (i + 1) * width);
      for (Wide& x : scaled) x *= w;
      sum += loss(i, scaled.data());
    }
    return sum / static_cast<Wide>(of.size());
  });
}

Wide penalty_by_differences(const std::vector<Wide>& f, std::int64_t width, const Lists& lists,
                            const IrmOptions& options, const SampleLoss& loss) {
  Wide sum = 0, counted = 0;
  for (const auto& of : lists) {
    if (of.size() < (options.unbiased ? 2U : 1U)) continue;
    counted += 1;
    std::vector<std::int64_t> halves[2];
    for (std::size_t k = 0; k < of.size(); ++k) halves[k % 2].push_back(of[k]);
    const Wide first = derivative_by_scale(f, width, options.unbiased ? halves[0] : of, loss);
    sum += first * (options.unbiased ? derivative_by_scale(f, width, halves[1], loss) : first);
  }
  return options.mean_over_environments && counted > 0 ? sum / counted : sum;
}

/// Value and gradient of the penalty by numerical differentiation, once and twice, in 80 bits.
Evaluated double_differentiated(const Values& prediction, std::int64_t width, const Lists& lists,
                                const IrmOptions& options, const SampleLoss& loss) {
  std::vector<Wide> f(prediction.begin(), prediction.end());
  Evaluated out{penalty_by_differences(f, width, lists, options, loss), {Values(f.size())}};
  for (std::size_t j = 0; j < f.size(); ++j) {
    const Wide at = f[j];
    out.gradients[0][j] = static_cast<double>(slope_at(at, 1e-3L, [&](Wide x) {
      f[j] = x;
      return penalty_by_differences(f, width, lists, options, loss);
    }));
    f[j] = at;
  }
  return out;
}

Wide softplus(Wide x) { return std::max<Wide>(x, 0) + std::log1p(std::exp(-std::abs(x))); }

/// The losses over targets that the samples use in turn.
SampleLoss pointwise_loss(const Values& target, std::int64_t width,
                          const std::function<Wide(Wide, Wide)>& loss) {
  return [=](std::int64_t i, const Wide* f) {
    const std::int64_t rows = static_cast<std::int64_t>(target.size()) / width;
    Wide sum = 0;
    for (std::int64_t j = 0; j < width; ++j) {
      sum += loss(f[j], static_cast<Wide>(target[i % rows * width + j]));
    }
    return sum / static_cast<Wide>(width);
  };
}
SampleLoss cross_entropy_loss(const std::vector<std::int32_t>& classes, std::int64_t width) {
  return [=](std::int64_t i, const Wide* z) {
    const Wide largest = *std::max_element(z, z + width);
    Wide sum = 0;
    for (std::int64_t c = 0; c < width; ++c) sum += std::exp(z[c] - largest);
    return largest + std::log(sum) - z[classes[i % classes.size()]];
  };
}

/// Relative to the value and the largest gradient; numerical differentiation is good to 1e-9.
template <class T>
double allowed() {
  return std::is_same_v<T, float> ? 1e-5 / std::numeric_limits<float>::epsilon()
                                  : 1e-9 / std::numeric_limits<double>::epsilon();
}

/// Samples, outputs, environments, and how many samples share a target.
struct Layout {
  std::int64_t samples, width, environments, repeats;
};
const Layout kLayouts[] = {{1, 1, 1, 1}, {7, 1, 3, 1}, {12, 3, 4, 3}, {33, 2, 2, 1}};

template <class Check>
void for_each_setting(const Check& check) {
  for (const Layout& layout : kLayouts) {
    for (const bool unbiased : {false, true}) {
      for (const bool mean : {false, true}) {
        for (const bool blocks : {false, true}) {
          if (blocks && layout.samples % layout.environments != 0) continue;
          check(
              layout,
              blocks ? EnvironmentGroups::blocks(layout.environments - 1,
                                                 layout.samples / layout.environments)
                     : labelled(layout.samples, layout.environments),
              IrmOptions{unbiased, mean},
              fmt::format("[{}, {}] environments {} unbiased {} mean {} blocks {}", layout.samples,
                          layout.width, layout.environments, unbiased, mean, blocks));
        }
      }
    }
  }
}

TYPED_TEST(IrmTest, PointwiseIsTheSecondDerivativeOfTheLoss) {
  using T = TypeParam;
  for_each_isa([] {
    for_each_setting([](const Layout& layout, const EnvironmentGroups& groups,
                        const IrmOptions& options, const std::string& what) {
      const auto& [n, width, environments, repeats] = layout;
      const std::int64_t targets = n / repeats;
      Values binary(targets * width);
      for (std::size_t i = 0; i < binary.size(); ++i) binary[i] = i % 3 == 0 ? 1 : 0;
      const Tensor f = tensor<T>(normals(n * width, 1, 2.0), {n, width}),
                   t = tensor<T>(normals(targets * width, 2), {targets, width}),
                   b = tensor<T>(binary, {targets, width});
      const auto agree = [&](const char* name, auto&& op, const SampleLoss& loss) {
        const Evaluated expected =
            double_differentiated(f.to_vector(), width, lists_of(groups), options, loss);
        expect_agrees<T>(evaluate({f}, op), expected, allowed<T>(), name + what, 1e-2);
      };
      const auto square = [](Wide p, Wide q) { return (p - q) * (p - q); };
      const auto logistic = [](Wide p, Wide q) {
        return 2.5L * q * softplus(-p) + (1 - q) * softplus(p);
      };
      agree(
          "mse ", [&](auto x) { return irm_mse(x[0], t, groups, options); },
          pointwise_loss(t.to_vector(), width, square));
      agree(
          "binary ",
          [&](auto x) {
            return irm_binary_cross_entropy_with_logits(x[0], b, groups, options, 2.5);
          },
          pointwise_loss(binary, width, logistic));
    });
  });
}

/// Away from the kinks: |f - t| > 0.25 everywhere.
TYPED_TEST(IrmTest, AbsoluteErrorIsTheSecondDerivativeOfTheLoss) {
  using T = TypeParam;
  for_each_setting([](const Layout& layout, const EnvironmentGroups& groups,
                      const IrmOptions& options, const std::string& what) {
    const auto& [n, width, environments, repeats] = layout;
    Values prediction = normals(n * width, 1);
    for (double& x : prediction) x += x > 0 ? 0.25 : -0.25;
    const Tensor f = tensor<T>(prediction, {n, width}),
                 t = tensor<T>(Values(n * width / repeats), {n / repeats, width});
    expect_agrees<T>(
        evaluate({f}, [&](auto x) { return irm_mae(x[0], t, groups, options); }),
        double_differentiated(
            f.to_vector(), width, lists_of(groups), options,
            pointwise_loss(t.to_vector(), width, [](Wide p, Wide q) { return std::abs(p - q); })),
        allowed<T>(), what, 1e-2);
  });
}

TYPED_TEST(IrmTest, CrossEntropyIsTheSecondDerivativeOfTheLoss) {
  using T = TypeParam;
  for_each_isa([] {
    for_each_setting([](const Layout& layout, const EnvironmentGroups& groups,
                        const IrmOptions& options, const std::string& what) {
      const std::int64_t n = layout.samples, width = layout.width + 1;
      std::vector<std::int32_t> classes(n / layout.repeats);
      for (std::size_t i = 0; i < classes.size(); ++i) {
        classes[i] = static_cast<std::int32_t>((i * 5 + 1) % width);
      }
      const Tensor z = tensor<T>(normals(n * width, 3, 2.0), {n, width}),
                   y = Tensor::from(classes, {static_cast<std::int64_t>(classes.size())});
      expect_agrees<T>(
          evaluate({z}, [&](auto x) { return irm_cross_entropy(x[0], y, groups, options); }),
          double_differentiated(z.to_vector(), width, lists_of(groups), options,
                                cross_entropy_loss(classes, width)),
          allowed<T>(), what, 1e-2);
    });
  });
}

/// At logits of 1e4 the closed form's slopes are those of the largest logit.
TYPED_TEST(IrmTest, LargeLogitsStayFinite) {
  using T = TypeParam;
  const EnvironmentGroups groups = EnvironmentGroups::blocks(0, 2);
  const Tensor z = tensor<T>({10000, 0, -10000, 0, 10000, -10000}, {2, 3});
  const auto right = evaluate({z}, [&](auto x) {
    return irm_cross_entropy(x[0], Tensor::from<std::int32_t>({0, 1}, {2}), groups);
  });
  EXPECT_EQ(right.value, 0);
  const auto wrong = evaluate({z}, [&](auto x) {
    return irm_cross_entropy(x[0], Tensor::from<std::int32_t>({1, 1}, {2}), groups);
  });
  EXPECT_NEAR(static_cast<double>(wrong.value), 5000.0 * 5000.0, 10);  // ((1e4 + 0) / 2)^2
  // 2 D / n times p - y of the first sample
  EXPECT_NEAR(wrong.gradients[0][0], kCotangent * 5000, 0.01);
  EXPECT_NEAR(wrong.gradients[0][1], kCotangent * -5000, 0.01);
  const auto binary = evaluate({tensor<T>({10000, -10000}, {2})}, [&](auto x) {
    return irm_binary_cross_entropy_with_logits(x[0], tensor<T>({0, 0}, {2}), groups);
  });
  EXPECT_NEAR(static_cast<double>(binary.value), 5000.0 * 5000.0, 10);
}

TYPED_TEST(IrmTest, IdenticalRowsAndEnvironmentsTooSmall) {
  using T = TypeParam;
  const Tensor f = tensor<T>({0.5, 0.5, 0.5, 0.5}, {4}), t = tensor<T>({1, 1, 1, 1}, {4});
  const EnvironmentGroups two = EnvironmentGroups::blocks(1, 2),
                          single = EnvironmentGroups::blocks(3, 1);
  // f l'(f) = 0.5 * 2 * -0.5 of every sample, whatever the halves.
  for (const bool unbiased : {false, true}) {
    EXPECT_EQ(irm_mse(Variable(f), t, two, {unbiased}).value().item(), 0.25);
  }
  EXPECT_EQ(irm_mse(Variable(f), t, single).value().item(), 0.25);
  const auto none =
      evaluate({f}, [&](auto x) { return irm_mse(x[0], t, single, {.unbiased = true}); });
  EXPECT_EQ(flatten(none), Values(5));
}

/// Rows of noise_variants, with one set of targets, as the environments of a penalty.
TEST(Irm, TakesTheBlocksOfVariants) {
  const Variable x(Tensor::from(normals(5, 1), {5, 1}), true);
  const Tensor t = Tensor::from(normals(5, 2), {5});
  const Variable variants = noise_variants(x, 2, 0.1, {.seed = 7});
  const Variable penalty = irm_mse(variants, t, EnvironmentGroups::blocks(2, 5));
  backward(penalty);
  double expected = 0;
  const auto f = variants.value().to_vector(), target = t.to_vector();
  for (int e = 0; e < 3; ++e) {
    double slope = 0;
    for (int i = 0; i < 5; ++i) slope += 2 * f[e * 5 + i] * (f[e * 5 + i] - target[i]) / 5;
    expected += slope * slope / 3;
  }
  EXPECT_NEAR(penalty.value().item(), expected, 1e-12);
  EXPECT_TRUE(x.gradient().defined());
}

TYPED_TEST(IrmTest, SameBitsForAnyThreadCountAndNaNGivesNaN) {
  using T = TypeParam;
  const Tensor f = tensor<T>(normals(5001, 1), {5001}), t = tensor<T>(normals(5001, 2), {5001});
  const EnvironmentGroups groups = labelled(5001, 5);
  expect_same_bits_for_any_thread_count(
      [&] { return flatten(evaluate({f}, [&](auto x) { return irm_mse(x[0], t, groups); })); });
  EXPECT_EQ(irm_mse(Variable(f), t, groups).value().item(),
            irm_mse(Variable(f, true), t, groups).value().item());
  const Variable x(tensor<T>({1, kNaN}, {2}));
  EXPECT_TRUE(std::isnan(
      irm_mae(x, tensor<T>({0, 0}, {2}), EnvironmentGroups::blocks(1, 1)).value().item()));
}

TEST(IrmErrors, NameTheLossAndTheRemedy) {
  const Variable p(Tensor::zeros({4, 1}));
  const EnvironmentGroups groups = EnvironmentGroups::blocks(1, 2);
  expect_usage_error([&] { irm_mse(p, Tensor::zeros({3}), groups); }, "irm_mse: prediction");
  expect_usage_error([&] { irm_mse(p, Tensor::zeros({4}), EnvironmentGroups::blocks(1, 3)); },
                     "the environments have 6 samples");
  expect_usage_error([&] { irm_mse(p, Tensor::zeros({4}), {}); }, "needs environments");
  expect_usage_error([&] { irm_binary_cross_entropy_with_logits(p, Tensor::full({4}, 2), groups); },
                     "outside [0, 1]");
  const Variable logits(Tensor::zeros({4, 3}));
  expect_usage_error(
      [&] {
        irm_cross_entropy(logits, Tensor::from<std::int32_t>({0, 3}, {2}), groups);
      },
      "sample 1 has class 3");
  expect_usage_error([&] { irm_cross_entropy(logits, Tensor::zeros({4}), groups); }, "i32 classes");
}

TEST(EnvironmentGroupsErrors, NameTheSampleAndTheRemedy) {
  expect_usage_error(
      [] {
        EnvironmentGroups::by_labels(Tensor::from<std::int32_t>({0, 2}, {2}), 2);
      },
      "sample 1 is of environment 2");
  expect_usage_error([] { EnvironmentGroups::by_labels(Tensor::from<std::int32_t>({-1}, {1}), 2); },
                     "sample 0 is of environment -1");
  expect_usage_error([] { EnvironmentGroups::by_labels(Tensor::zeros({2}), 2); }, "labels i32");
  expect_usage_error(
      [] {
        EnvironmentGroups::by_offsets(Tensor::from<std::int64_t>({0, 3, 2}, {3}));
      },
      "environment 1 is from 3 to 2");
  expect_usage_error(
      [] {
        EnvironmentGroups::by_offsets(Tensor::from<std::int64_t>({1, 3}, {2}));
      },
      "start at 0");
  auto groups = EnvironmentGroups::by_labels(Tensor::from<std::int32_t>({0, 1}, {2}), 2);
  expect_usage_error(
      [&] {
        groups.relabel(Tensor::from<std::int32_t>({0, 2}, {2}));
      },
      "sample 1 is of environment 2");
  expect_usage_error([&] { groups.relabel(Tensor::from<std::int32_t>({0}, {1})); }, "i32[2]");
  EXPECT_EQ(groups.offsets.to_vector(), (Values{0, 1, 2}));
  groups = EnvironmentGroups::blocks(1, 2);
  expect_usage_error(
      [&] {
        groups.relabel(Tensor::from<std::int32_t>({0, 1}, {2}));
      },
      "made by labels");
}

TEST(EnvironmentGroupsTest, LabelsKeepTheOrderOfTheSamples) {
  const auto groups =
      EnvironmentGroups::by_labels(Tensor::from<std::int32_t>({2, 0, 2, 0, 2}, {5}), 3);
  EXPECT_EQ(groups.offsets.to_vector(), (Values{0, 2, 2, 5}));
  EXPECT_EQ(groups.order.to_vector(), (Values{1, 3, 0, 2, 4}));
  EXPECT_EQ(EnvironmentGroups::blocks(2, 4).offsets.to_vector(), (Values{0, 4, 8, 12}));
}

}  // namespace
}  // namespace cmir::losses
