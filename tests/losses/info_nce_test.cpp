#include "losses/info_nce.h"

#include "autograd/precision.h"
#include "core/allocator.h"
#include "core/graph.h"
#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class InfoNceTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(InfoNceTest, Scalars);

/// 1e-5 in f32, and in f64 as many of its own eps.
constexpr double kFactor = 1e-5 / std::numeric_limits<float>::epsilon();

/// Rows and the way back through their normalisation; the rows themselves for Critic::dot.
struct Rows {
  Values y;
  Values inverse;
  std::int64_t n, d;
  bool cosine;

  Rows(const Tensor& x, Critic critic)
      : y(x.to_vector()),
        inverse(x.size(0)),
        n(x.size(0)),
        d(x.size(1)),
        cosine(critic == Critic::cosine) {
    for (std::int64_t i = 0; cosine && i < n; ++i) {
      double square = 0;
      for (std::int64_t k = 0; k < d; ++k) square += y[i * d + k] * y[i * d + k];
      inverse[i] = square == 0 ? 0 : 1 / std::sqrt(square);
      for (std::int64_t k = 0; k < d; ++k) y[i * d + k] *= inverse[i];
    }
  }
  Values back(Values gradient) const {
    for (std::int64_t i = 0; cosine && i < n; ++i) {
      double along = 0;
      for (std::int64_t k = 0; k < d; ++k) along += gradient[i * d + k] * y[i * d + k];
      for (std::int64_t k = 0; k < d; ++k) {
        gradient[i * d + k] = inverse[i] * (gradient[i * d + k] - along * y[i * d + k]);
      }
    }
    return gradient;
  }
};

/// The mean loss and its gradients with respect to a, b and ln scale, all N x N scores written out.
Evaluated naive(const Tensor& a_rows, const Tensor& b_rows, double scale,
                const InfoNceOptions& options) {
  const std::int64_t n = a_rows.size(0), d = a_rows.size(1);
  const Rows a(a_rows, options.scores.critic), b(b_rows, options.scores.critic);
  Values s(n * n), ds(n * n), da(n * d), db(n * d), dlog(1);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      for (std::int64_t k = 0; k < d; ++k) s[i * n + j] += scale * a.y[i * d + k] * b.y[j * d + k];
    }
  }
  Evaluated out{0, {}};
  const double share = (options.symmetric ? 0.5 : 1.0) / static_cast<double>(n);
  for (const std::int64_t step : {n, std::int64_t{1}}) {  // over rows, over columns
    if (step == 1 && !options.symmetric) continue;
    const std::int64_t across = step == n ? 1 : n;
    for (std::int64_t i = 0; i < n; ++i) {
      double largest = -1e300, sum = 0;
      for (std::int64_t j = 0; j < n; ++j) largest = std::max(largest, s[i * step + j * across]);
      for (std::int64_t j = 0; j < n; ++j) sum += std::exp(s[i * step + j * across] - largest);
      out.value += share * (largest + std::log(sum) - s[i * n + i]);
      for (std::int64_t j = 0; j < n; ++j) {
        ds[i * step + j * across] += share * std::exp(s[i * step + j * across] - largest) / sum;
      }
      ds[i * n + i] -= share;
    }
  }
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      dlog[0] += ds[i * n + j] * s[i * n + j];
      for (std::int64_t k = 0; k < d; ++k) {
        da[i * d + k] += scale * ds[i * n + j] * b.y[j * d + k];
        db[j * d + k] += scale * ds[i * n + j] * a.y[i * d + k];
      }
    }
  }
  out.gradients = {a.back(da), b.back(db), dlog};
  return out;
}

InfoNceOptions at_temperature(double temperature) { return {{Critic::cosine, temperature}}; }
InfoNceOptions with_scale(const Variable& log_scale) { return {{Critic::cosine, 0.5, log_scale}}; }

TYPED_TEST(InfoNceTest, AgreesWithAllScoresWrittenOut) {
  using T = TypeParam;
  for_each_isa([] {
    for (const auto& [n, d] : {std::pair{2, 3}, {7, 5}, {33, 16}, {131, 20}, {290, 7}}) {
      const Tensor a = tensor<T>(normals(n * d, 1), {n, d});
      const Tensor b = tensor<T>(normals(n * d, 2), {n, d});
      for (const auto critic : {Critic::cosine, Critic::dot}) {
        for (const bool symmetric : {false, true}) {
          InfoNceOptions options{{critic, critic == Critic::dot ? 2.0 : 0.2}, symmetric};
          const auto what = fmt::format("[{}, {}], critic {}, symmetric {}", n, d,
                                        static_cast<int>(critic), symmetric);
          const double scale = 1 / options.scores.temperature;
          auto expected = naive(a, b, scale, options);
          expected.gradients.pop_back();
          expect_agrees<T>(evaluate({a, b}, [&](auto x) { return info_nce(x[0], x[1], options); }),
                           expected, kFactor, what);
          const Tensor log_scale = tensor<T>({0.3}, {});
          const auto learnt = [&](auto x) {
            options.scores.log_scale = x[2];
            return info_nce(x[0], x[1], options);
          };
          expect_agrees<T>(evaluate({a, b, log_scale}, learnt),
                           naive(a, b, scale * std::exp(log_scale.item()), options), kFactor,
                           what + ", learnt");
        }
      }
    }
  });
}

TYPED_TEST(InfoNceTest, NeverExceedsLnN) {
  using T = TypeParam;
  const Tensor x = tensor<T>(normals(64 * 8, 1), {64, 8});
  for (const double temperature : {1.0, 0.07, 0.01, 1e-4}) {
    const auto at =
        evaluate({x}, [&](auto z) { return info_nce(z[0], z[0], at_temperature(temperature)); });
    EXPECT_GE(at.value, 0);  // ln N - loss <= ln N
    for (const double g : at.gradients[0]) ASSERT_TRUE(std::isfinite(g));
  }
}

TYPED_TEST(InfoNceTest, AZeroVectorHasCosineZeroAndNoGradient) {
  using T = TypeParam;
  Values values = normals(9 * 4, 1);
  std::fill_n(values.begin(), 4, 0.0);
  const Tensor a = tensor<T>(values, {9, 4}), b = tensor<T>(normals(9 * 4, 2), {9, 4});
  const auto at = evaluate({a, b}, [](auto x) { return info_nce(x[0], x[1]); });
  auto expected = naive(a, b, 1 / 0.07, {});
  expected.gradients.pop_back();
  expect_agrees<T>(at, expected, 2 * kFactor, "zero vector");
  for (int k = 0; k < 4; ++k) EXPECT_EQ(at.gradients[0][k], 0);
}

TYPED_TEST(InfoNceTest, TemperatureNearZero) {
  using T = TypeParam;
  const Tensor a = tensor<T>(normals(20 * 6, 1), {20, 6}),
               b = tensor<T>(normals(20 * 6, 2), {20, 6});
  for (const double temperature : {1e-2, 1e-4}) {  // scores up to 1e4
    const auto at =
        evaluate({a, b}, [&](auto x) { return info_nce(x[0], x[1], at_temperature(temperature)); });
    auto expected = naive(a, b, 1 / temperature, at_temperature(temperature));
    expected.gradients.pop_back();
    // A score's own rounding, 1 / temperature eps, moves each softmax by as much.
    expect_agrees<T>(at, expected, 4 / temperature, fmt::format("temperature {}", temperature));
  }
}

TYPED_TEST(InfoNceTest, EachLossHasItsOwnCotangent) {
  using T = TypeParam;
  const std::int64_t n = 11, d = 4;
  const Tensor a = tensor<T>(normals(n * d, 1), {n, d}), b = tensor<T>(normals(n * d, 2), {n, d});
  Values total(n * d);
  for (std::int64_t i = 0; i < n; ++i) {
    Variable x(a, true);
    const Variable losses = info_nce_losses(x, Variable(b));
    ASSERT_EQ(losses.shape(), Shape{n});
    Values one(n);
    one[i] = 1 + static_cast<double>(i);
    backward(losses, {.seed = tensor<T>(one, {n})});
    const Values gradient = x.gradient().to_vector();
    for (std::int64_t e = 0; e < n * d; ++e) total[e] += gradient[e];
  }
  Variable x(a, true);
  Values all(n);
  for (std::int64_t i = 0; i < n; ++i) all[i] = 1 + static_cast<double>(i);
  backward(info_nce_losses(x, Variable(b)), {.seed = tensor<T>(all, {n})});
  const Values together = x.gradient().to_vector();
  for (std::int64_t e = 0; e < n * d; ++e) {
    EXPECT_NEAR(together[e], total[e], 200 * std::numeric_limits<T>::epsilon() * largest(together));
  }
}

TYPED_TEST(InfoNceTest, OnlyTheScaleNeedsAGradient) {
  using T = TypeParam;
  const Tensor a = tensor<T>(normals(30, 1), {6, 5}), b = tensor<T>(normals(30, 2), {6, 5});
  Variable log_scale(tensor<T>({0.3}, {}), true);
  backward(info_nce(Variable(a), Variable(b), with_scale(log_scale)));
  const double expected = naive(a, b, std::exp(log_scale.value().item()) / 0.5, {}).gradients[2][0];
  EXPECT_NEAR(log_scale.gradient().item(), expected, 1e-5 * std::abs(expected));
}

TYPED_TEST(InfoNceTest, SameBitsForAnyThreadCount) {
  const Tensor a = tensor<TypeParam>(normals(600 * 9, 1), {600, 9}),
               b = tensor<TypeParam>(normals(600 * 9, 2), {600, 9});
  const Tensor log_scale = tensor<TypeParam>({1.0}, {});
  expect_same_bits_for_any_thread_count([&] {
    return flatten(
        evaluate({a, b, log_scale}, [](auto x) { return info_nce(x[0], x[1], with_scale(x[2])); }));
  });
}

/// Two steps on the host model of CUDA: op by op, and replayed from a graph recorded with other
/// values.
TEST(InfoNceGraph, ReplaysWithTheValuesOfThen) {
  const Device simt{DeviceType::simt};
  const auto input = [&](std::int64_t seed) {
    return std::vector<Tensor>{tensor<float>(normals(70 * 5, seed), {70, 5}).to(simt),
                               tensor<float>(normals(70 * 5, seed + 1), {70, 5}).to(simt),
                               tensor<float>(normals(1, seed + 2), {1}).to(simt)};
  };
  const auto step = [](const std::vector<Tensor>& inputs) {
    std::vector<Variable> x;
    for (const Tensor& value : inputs) x.emplace_back(value, true);
    const Variable loss = info_nce(x[0], x[1], with_scale(x[2]));
    backward(loss);
    return std::vector<Tensor>{loss.value(), x[0].gradient(), x[1].gradient(), x[2].gradient()};
  };
  for (const auto precision : {Precision::f32, Precision::bf16}) {
    const PrecisionScope scope(precision);
    std::vector<Tensor> inputs = input(1), recorded;
    Graph graph(simt);
    graph.capture([&] { recorded = step(inputs); });
    const std::vector<Tensor> later = input(9), expected = step(later);
    for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i].copy_from(later[i]);
    graph.replay();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(recorded[i].to_vector(), expected[i].to_vector()) << i;
    }
  }
}

Tensor rounded_to_bf16(const Tensor& x) {
  Tensor out = x.clone();
  for (float& value : out.mutable_span<float>()) value = static_cast<float>(BFloat16(value));
  return out;
}

/// With dot scores, the formula of the rounded rows: the value within f32's bound, gradients within
/// the rounding of dS, 2^-8 of each term.
TEST(InfoNceBf16, AgreesWithTheScoresOfRoundedRows) {
  for (const Device device : {Device{}, Device{DeviceType::simt}}) {
    for (const auto& [n, d] : {std::pair{1, 3}, {7, 5}, {131, 20}}) {
      const Tensor a = tensor<float>(normals(n * d, 1), {n, d}),
                   b = tensor<float>(normals(n * d, 2), {n, d}),
                   log_scale = tensor<float>({0.3}, {});
      for (const bool symmetric : {false, true}) {
        const double scale = std::exp(log_scale.item()) / 2;
        const auto expected =
            naive(rounded_to_bf16(a), rounded_to_bf16(b), scale, {{Critic::dot, 2}, symmetric});
        const PrecisionScope scope(Precision::bf16);
        const auto actual =
            evaluate({a.to(device), b.to(device), log_scale.to(device)}, [&](auto x) {
              return info_nce(x[0], x[1], {{Critic::dot, 2, x[2]}, symmetric});
            });
        EXPECT_NEAR(actual.value, expected.value, 1e-5 * expected.value);
        for (std::size_t g = 0; g < 3; ++g) {
          // A row's dS sum to 0, its terms to at most 2 / n of the largest rows' product.
          const double bound = 0x1p-8 * std::abs(kCotangent) * scale * (g == 2 ? 2.0 : 2.0 / n) * 5;
          for (std::size_t i = 0; i < expected.gradients[g].size(); ++i) {
            ASSERT_NEAR(actual.gradients[g][i], kCotangent * expected.gradients[g][i], bound)
                << fmt::format("[{}, {}] on {}, gradient {}, element {}", n, d, device.to_string(),
                               g, i);
          }
        }
      }
    }
  }
}

/// Unit rows are rounded, not the rows they come from; backward needs no scope; f64 is left alone.
TEST(InfoNceBf16, TakesThePrecisionOfItsForward) {
  const Tensor a = tensor<float>(normals(40 * 9, 1), {40, 9}),
               b = tensor<float>(normals(40 * 9, 2), {40, 9});
  const auto in = [&](Precision precision, DType dtype) {
    return flatten(evaluate({a.to(dtype), b.to(dtype)}, [&](auto x) {
      const PrecisionScope scope(precision);
      return info_nce(x[0], x[1]);
    }));
  };
  const Values f32 = in(Precision::f32, DType::f32), bf16 = in(Precision::bf16, DType::f32);
  EXPECT_NE(f32, bf16);
  // A cosine errs by at most 2^-7, over the temperature of 0.07.
  for (std::size_t i = 0; i < f32.size(); ++i) EXPECT_NEAR(bf16[i], f32[i], i == 0 ? 0.23 : 0.02);
  EXPECT_EQ(in(Precision::bf16, DType::f64), in(Precision::f32, DType::f64));
  EXPECT_EQ(in(Precision::tf32, DType::f32), f32);
}

/// a and b as bf16, and what is of the samples.
TEST(InfoNceBf16, KeepsTwoBytesOfEachFeature) {
  const std::int64_t n = 256, d = 512;
  const auto kept = [&](Precision precision) {
    const Variable a(Tensor::full({n, d}, 0.1), true), b(Tensor::full({n, d}, 0.2), true);
    const auto before = static_cast<std::int64_t>(cpu_allocator().stats().live);
    const PrecisionScope scope(precision);
    const Variable loss = info_nce(a, b, {{Critic::dot, 1}, false});
    return static_cast<std::int64_t>(cpu_allocator().stats().live) - before;
  };
  // f32 shares a and b with the caller.
  EXPECT_EQ(kept(Precision::bf16) - kept(Precision::f32), 2 * n * d * 2);
}

TEST(InfoNceErrors, NameShapesAndValues) {
  const Variable a(Tensor::zeros({3, 4})), b(Tensor::zeros({3, 5}));
  expect_usage_error([&] { info_nce(a, b); }, "got f32[3, 4] on cpu and f32[3, 5] on cpu");
  expect_usage_error([&] { info_nce(a, a, at_temperature(0)); }, "temperature must be positive");
  expect_usage_error([&] { info_nce(a, a, with_scale(Variable(Tensor::zeros({2})))); },
                     "log_scale");
}

}  // namespace
}  // namespace cmir::losses
