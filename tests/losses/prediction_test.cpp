#include "losses/prediction.h"

#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class PredictionTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PredictionTest, Scalars);

/// Value and derivative of one element, by formulas that are exact enough for moderate arguments in
/// f64.
struct Point {
  double value, derivative;
};
using Formula = std::function<Point(double, double)>;

Point squared(double p, double t) { return {(p - t) * (p - t), 2 * (p - t)}; }
Point absolute(double p, double t) { return {std::abs(p - t), p > t ? 1.0 : (p < t ? -1.0 : 0.0)}; }
Point weighted_logistic(double p, double t, double w) {
  const double s = 1 / (1 + std::exp(-p));
  return {-w * t * std::log(s) - (1 - t) * std::log(1 - s), -w * t * (1 - s) + (1 - t) * s};
}

Evaluated mean_of(const Values& p, const Values& t, const Formula& formula) {
  Evaluated out{0, {Values(p.size())}};
  for (std::size_t i = 0; i < p.size(); ++i) {
    const Point point = formula(p[i], t[i]);
    out.value += point.value / static_cast<double>(p.size());
    out.gradients[0][i] = point.derivative / static_cast<double>(p.size());
  }
  return out;
}

TYPED_TEST(PredictionTest, AgreesWithTheFormulas) {
  using T = TypeParam;
  for_each_isa([] {
    for (const std::int64_t n : {1, 2, 7, 33, 2051}) {
      const Tensor p = tensor<T>(normals(n, 1, 2.0), {n, 1}), t = tensor<T>(normals(n, 2), {n});
      Values binary(n);
      for (std::int64_t i = 0; i < n; ++i) binary[i] = static_cast<double>(i % 2);
      const Tensor b = tensor<T>(binary, {n});
      const auto pv = p.to_vector(), tv = t.to_vector();
      const auto what = fmt::format("n {}", n);
      expect_agrees<T>(evaluate({p}, [&](auto x) { return mse(x[0], t); }),
                       mean_of(pv, tv, squared), 64, "mse " + what);
      expect_agrees<T>(evaluate({p}, [&](auto x) { return mae(x[0], t); }),
                       mean_of(pv, tv, absolute), 64, "mae " + what);
      expect_agrees<T>(
          evaluate({p}, [&](auto x) { return binary_cross_entropy_with_logits(x[0], b, 2.5); }),
          mean_of(pv, binary, [](double q, double u) { return weighted_logistic(q, u, 2.5); }), 64,
          "binary " + what);
    }
  });
}

TYPED_TEST(PredictionTest, PerSampleValuesAverageOutputs) {
  using T = TypeParam;
  const Tensor p = tensor<T>({1, 2, 3, 4}, {2, 2}), t = tensor<T>({0, 0, 0, 0}, {2, 2});
  EXPECT_EQ(mse(Variable(p), t, Reduction::none).value().to_vector(), (Values{2.5, 12.5}));
  EXPECT_EQ(mae(Variable(p), t, Reduction::none).value().to_vector(), (Values{1.5, 3.5}));
  const Variable x(p, true);
  backward(mse(x, t, Reduction::none), {.seed = tensor<T>({1, 10}, {2})});
  EXPECT_EQ(x.gradient().to_vector(), (Values{1, 2, 30, 40}));
}

TYPED_TEST(PredictionTest, BinaryCrossEntropyIsExactForExtremeLogits) {
  using T = TypeParam;
  const Variable x(tensor<T>({10000, -10000, 10000, -10000, -30}, {5}), true);
  const Variable value =
      binary_cross_entropy_with_logits(x, tensor<T>({1, 0, 0, 1, 0}, {5}), 1, Reduction::none);
  const auto values = value.value().to_vector();
  EXPECT_EQ(values[0], 0);
  EXPECT_EQ(values[1], 0);
  EXPECT_EQ(values[2], 10000);
  EXPECT_EQ(values[3], 10000);
  EXPECT_NEAR(values[4] / std::exp(-30.0), 1, 1e-6);
  backward(value, {.seed = Tensor::full({5}, 1, value.dtype())});
  const auto gradient = x.gradient().to_vector();
  EXPECT_EQ((Values{gradient.begin(), gradient.begin() + 4}), (Values{0, 0, 1, -1}));
  EXPECT_NEAR(gradient[4] / std::exp(-30.0), 1, 1e-6);
}

Evaluated naive_cross_entropy(const Values& logits, const std::vector<std::int32_t>& classes) {
  const std::size_t n = classes.size(), width = logits.size() / n;
  Evaluated out{0, {Values(logits.size())}};
  for (std::size_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::size_t c = 0; c < width; ++c) sum += std::exp(logits[i * width + c]);
    out.value += (std::log(sum) - logits[i * width + classes[i]]) / static_cast<double>(n);
    for (std::size_t c = 0; c < width; ++c) {
      const double chosen = static_cast<std::int32_t>(c) == classes[i] ? 1 : 0;
      out.gradients[0][i * width + c] =
          (std::exp(logits[i * width + c]) / sum - chosen) / static_cast<double>(n);
    }
  }
  return out;
}

TYPED_TEST(PredictionTest, CrossEntropyAgreesWithTheFormula) {
  using T = TypeParam;
  for_each_isa([] {
    for (const auto& [n, width] : {std::pair{1, 2}, {7, 3}, {33, 7}, {500, 5}}) {
      std::vector<std::int32_t> classes(n);
      for (int i = 0; i < n; ++i) classes[i] = (i * 5 + 1) % width;
      const Tensor targets = Tensor::from(classes, {n});
      const Tensor logits = tensor<T>(normals(n * width, 3, 3.0), {n, width});
      expect_agrees<T>(evaluate({logits}, [&](auto x) { return cross_entropy(x[0], targets); }),
                       naive_cross_entropy(logits.to_vector(), classes), 32,
                       fmt::format("n {} width {}", n, width));
    }
  });
  const Variable huge(tensor<T>({1e30, -1e30, 0}, {1, 3}), true);
  const Variable value = cross_entropy(huge, Tensor::from<std::int32_t>({0}, {1}));
  EXPECT_EQ(value.value().item(), 0);
}

TYPED_TEST(PredictionTest, NaNGivesNaN) {
  using T = TypeParam;
  const Variable p(tensor<T>({0.5, kNaN}, {2}));
  const Tensor t = tensor<T>({0, 1}, {2});
  EXPECT_TRUE(std::isnan(mse(p, t).value().item()));
  EXPECT_TRUE(std::isnan(mae(p, t).value().item()));
  EXPECT_TRUE(std::isnan(binary_cross_entropy_with_logits(p, t).value().item()));
  const Variable logits(tensor<T>({0.5, kNaN, 0.1, 0.2}, {2, 2}));
  EXPECT_TRUE(
      std::isnan(cross_entropy(logits, Tensor::from<std::int32_t>({0, 1}, {2})).value().item()));
}

TYPED_TEST(PredictionTest, SameBitsForAnyThreadCount) {
  using T = TypeParam;
  const Tensor p = tensor<T>(normals(5003, 1), {5003}), t = tensor<T>(normals(5003, 2), {5003});
  expect_same_bits_for_any_thread_count(
      [&] { return flatten(evaluate({p}, [&](auto x) { return mse(x[0], t); })); });
}

TEST(PredictionErrors, NameTheLossAndTheRemedy) {
  const Variable p(Tensor::zeros({3, 1}));
  expect_usage_error([&] { mse(p, Tensor::zeros({4})); }, "mse: prediction f32[3, 1]");
  expect_usage_error([&] { mae(p, Tensor::zeros({3}, DType::i32)); },
                     "mae: target must be f32 or f64");
  expect_usage_error(
      [&] {
        mse(Variable(Tensor::zeros({0, 1})), Tensor::zeros({0}));
      },
      "at least one");
  expect_usage_error([&] { binary_cross_entropy_with_logits(p, Tensor::full({3}, -1)); },
                     "outside [0, 1]");
  expect_usage_error([&] { binary_cross_entropy_with_logits(p, Tensor::zeros({3}), 0); },
                     "positive_weight");
  const Variable logits(Tensor::zeros({2, 3}));
  expect_usage_error(
      [&] {
        cross_entropy(logits, Tensor::from<std::int32_t>({0, 3}, {2}));
      },
      "sample 1 has class 3");
  expect_usage_error(
      [&] {
        cross_entropy(logits, Tensor::from<std::int32_t>({-1, 0}, {2}));
      },
      "sample 0 has class -1");
  expect_usage_error([&] { cross_entropy(logits, Tensor::zeros({2})); }, "i32 classes");
}

}  // namespace
}  // namespace cmir::losses
