#include "losses/environments.h"

#include <numbers>

#include "kernels/loss/noise_variants.h"
#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

const RandomStream kStream{.seed = 0x9E3779B97F4A7C15, .step = 17, .site = 3};

TEST(NoiseVariants, NoiseIsThatOfTheStream) {
  for_each_isa([] {
    const std::int64_t count = 100003;
    Guarded<float> x(count, 0.0F), y(2 * count);
    kernels::run({},
                 kernels::NoiseVariantsForward<float>{x.data(), y.data(), count, 1, 1.0, kStream});
    for (std::int64_t i = 0; i < count; ++i) {
      ASSERT_EQ(y[i], 0.0F);
      // Box-Muller in f64. The stream's own normal rounds the angle in f32, which costs a few 1e-7
      // times the radius.
      const auto words = kStream.words(i / 4);
      const int pair = i % 4 < 2 ? 0 : 2;
      const double radius = std::sqrt(-2 * std::log(((words[pair] >> 8) + 1.0) * 0x1p-24));
      const double angle = 2 * std::numbers::pi * (words[pair + 1] >> 8) * 0x1p-24;
      const double exact = radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
      ASSERT_NEAR(y[count + i], exact, 4e-7 * std::max(1.0, radius)) << "element " << i;
      ASSERT_NEAR(y[count + i], kStream.normal(i), 1e-6 * std::max(1.0, radius)) << "element " << i;
    }
  });
}

template <class T>
class EnvironmentsTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(EnvironmentsTest, Scalars);

TYPED_TEST(EnvironmentsTest, BlocksAreXPlusScaledNoise) {
  using T = TypeParam;
  for_each_isa([] {
    for (int environments = 1; environments <= 10; ++environments) {
      for (const auto& [n, d] : {std::pair{1, 1}, {3, 7}, {5, 53}, {2, 257}}) {
        const std::int64_t count = n * d;
        Guarded<T> x(normals(count, 5)), y((environments + 1) * count);
        kernels::run({}, kernels::NoiseVariantsForward<T>{x.data(), y.data(), count, environments,
                                                          0.3, kStream});
        for (std::int64_t i = 0; i < count; ++i) {
          ASSERT_EQ(y[i], x[i]);
          for (int e = 1; e <= environments; ++e) {
            const double expected = x[i] + 0.3 * e * kStream.normal((e - 1) * count + i);
            ASSERT_NEAR(y[e * count + i], expected, 1e-6 * (1 + 0.3 * e * 6))
                << n << 'x' << d << ' ' << e;
          }
        }
      }
    }
  });
}

TYPED_TEST(EnvironmentsTest, GradientAddsTheBlocks) {
  using T = TypeParam;
  for_each_isa([] {
    const Variable x(tensor<T>(normals(1500 * 3, 5), {1500, 3}), true);
    const Variable y = noise_variants(x, 4, 0.1, kStream);
    ASSERT_EQ(y.shape(), (Shape{7500, 3}));
    const Tensor dy = tensor<T>(normals(7500 * 3, 6), {7500, 3});
    backward(y, {.seed = dy});
    const auto seed = dy.to_vector();
    Values expected(4500);
    for (std::size_t i = 0; i < seed.size(); ++i) expected[i % 4500] += seed[i];
    const Tensor gradient = x.gradient();
    expect_close<T>(gradient.template span<T>(), expected, 20, 4, "noise_variants gradient");
  });
}

TEST(NoiseVariants, MomentsAndIndependence) {
  const std::int64_t count = 100000;
  const Variable x(Tensor::zeros({count, 1}));
  const auto y = noise_variants(x, 2, 1.0, kStream).value().to_vector();
  double mean = 0, square = 0, fourth = 0, product = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double first = y[count + i], second = y[2 * count + i] / 2;
    mean += first / count;
    square += first * first / count;
    fourth += first * first * first * first / count;
    product += first * second / count;
  }
  EXPECT_NEAR(mean, 0, 0.016);  // five standard errors
  EXPECT_NEAR(square, 1, 0.023);
  EXPECT_NEAR(fourth, 3, 0.16);
  EXPECT_NEAR(product, 0, 0.016);
}

TEST(NoiseVariants, SameBitsForAnyThreadCount) {
  const Variable x(tensor<float>(normals(101 * 97, 1), {101, 97}));
  expect_same_bits_for_any_thread_count(
      [&] { return noise_variants(x, 3, 0.1, kStream).value().to_vector(); });
}

/// Element (i, j) of the corrupted x, from the stream's own scalar functions.
double naive_corruption(const Corruption& c, double x, std::int64_t row, std::int64_t element) {
  CorruptionKind kind = c.kind;
  if (kind == CorruptionKind::laplace_or_erase) {
    const auto choice = kStream.word((std::uint64_t{1} << 62) + static_cast<std::uint64_t>(row));
    kind = choice >= 0x80000000U ? CorruptionKind::laplace : CorruptionKind::erase;
  }
  const std::uint32_t word = kStream.word(element);
  if (kind == CorruptionKind::erase) {
    return RandomStream::uniform_of(word) < static_cast<float>(c.rate) ? 0.0 : x;
  }
  const double exponential = -std::log(((word >> 8) + 1.0) * 0x1p-24);
  const double noise = kind == CorruptionKind::gaussian
                           ? kStream.normal(element)
                           : (word % 2 ? -1 : 1) * c.laplace_scale * exponential;
  return (1 - c.rate) * x + c.rate * noise;
}

const std::vector<CorruptionKind> kKinds = {CorruptionKind::gaussian, CorruptionKind::laplace,
                                            CorruptionKind::erase,
                                            CorruptionKind::laplace_or_erase};

TYPED_TEST(EnvironmentsTest, CorruptionAgreesWithTheFormula) {
  using T = TypeParam;
  for_each_isa([] {
    for (const CorruptionKind kind : kKinds) {
      for (const auto& [n, d] : {std::pair{1, 1}, {7, 13}, {40, 31}, {3, 600}}) {
        const Corruption corruption{.kind = kind, .rate = 0.3, .laplace_scale = 0.8};
        const Variable x(tensor<T>(normals(n * d, 4), {n, d}), true);
        const Variable y = corrupt(x, corruption, kStream);
        backward(y, {.seed = Tensor::full({n, d}, 1, y.dtype())});
        const auto in = x.value().to_vector(), out = y.value().to_vector(),
                   slope = x.gradient().to_vector();
        for (std::int64_t i = 0; i < n * d; ++i) {
          ASSERT_NEAR(out[i], naive_corruption(corruption, in[i], i / d, i), 1e-5)
              << n << 'x' << d << ' ' << i;
          // The map is affine: its slope is f(1) - f(0).
          const double expected =
              naive_corruption(corruption, 1, i / d, i) - naive_corruption(corruption, 0, i / d, i);
          ASSERT_NEAR(slope[i], expected, 1e-6) << n << 'x' << d << ' ' << i;
        }
      }
    }
  });
}

TYPED_TEST(EnvironmentsTest, CorruptionAtItsEnds) {
  using T = TypeParam;
  const Variable x(tensor<T>(normals(50 * 11, 4), {50, 11}));
  for (const CorruptionKind kind : kKinds) {
    EXPECT_EQ(corrupt(x, {.kind = kind, .rate = 0}, kStream).value().to_vector(),
              x.value().to_vector());
  }
  EXPECT_EQ(
      largest(corrupt(x, {.kind = CorruptionKind::erase, .rate = 1}, kStream).value().to_vector()),
      0);
}

TEST(Corruption, NoiseHasVarianceOneAndErasureItsRate) {
  const std::int64_t count = 100000;
  const Variable zeros(Tensor::zeros({count, 1})), ones(Tensor::full({count, 1}, 1));
  const auto laplace =
      corrupt(zeros, {.kind = CorruptionKind::laplace, .rate = 1}, kStream).value().to_vector();
  const auto erased =
      corrupt(ones, {.kind = CorruptionKind::erase, .rate = 0.3}, kStream).value().to_vector();
  double mean = 0, square = 0, kept = 0, laplace_samples = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    mean += laplace[i] / count;
    square += laplace[i] * laplace[i] / count;
    kept += erased[i] / count;
    laplace_samples +=
        kernels::corruption_of_sample(kStream, i) == CorruptionKind::laplace ? 1.0 / count : 0;
  }
  EXPECT_NEAR(mean, 0, 0.016);
  EXPECT_NEAR(square, 1, 0.036);  // five standard errors: the fourth moment is 6
  EXPECT_NEAR(kept, 0.7, 0.008);
  EXPECT_NEAR(laplace_samples, 0.5, 0.008);
}

TEST(Corruption, SameBitsForAnyThreadCount) {
  const Variable x(tensor<float>(normals(301 * 97, 1), {301, 97}));
  for (const CorruptionKind kind : kKinds) {
    expect_same_bits_for_any_thread_count(
        [&] { return corrupt(x, {.kind = kind, .rate = 0.5}, kStream).value().to_vector(); });
  }
}

TEST(EnvironmentErrors, NameTheValue) {
  const Variable x(Tensor::zeros({2, 3}));
  expect_usage_error([&] { noise_variants(x, 0, 0.1, kStream); },
                     "at least one noisy environment, got 0");
  expect_usage_error([&] { noise_variants(x, 1, kNaN, kStream); }, "alpha is nan");
  expect_usage_error([&] { corrupt(x, {.rate = 1.5}, kStream); },
                     "rate must be in [0, 1], got 1.5");
  expect_usage_error([&] { corrupt(x, {.rate = 0.5, .laplace_scale = -1}, kStream); },
                     "laplace_scale");
}

}  // namespace
}  // namespace cmir::losses
