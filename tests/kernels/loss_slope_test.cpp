#include "kernels/invariance/loss_slope.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class LossSlopeTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LossSlopeTest, Scalars);

/// One row a thread (up to width 8 on a device) and one a warp; rows about a block of either.
const std::pair<std::int64_t, std::int64_t> kShapes[] = {{0, 3},  {1, 1},  {126, 1}, {130, 1},
                                                         {4, 3},  {32, 7}, {10, 8},  {6, 9},
                                                         {4, 31}, {8, 33}, {2, 150}};

struct Point {
  double slope, derivative;
};
/// f l'(f) and l'(f) + f l''(f), each from l' and l''.
Point exact_point(PointwiseLossKind kind, double w, double f, double t) {
  double first = double(f > t) - double(f < t), second = 0;
  if (kind == PointwiseLossKind::squared) {
    first = 2 * (f - t);
    second = 2;
  } else if (kind == PointwiseLossKind::binary_logistic) {
    const double s = 1 / (1 + std::exp(-f));
    first = (1 - t) * s - w * t * (1 - s);
    second = (1 - t + w * t) * s * (1 - s);
  }
  return {f * first, first + f * second};
}

TYPED_TEST(LossSlopeTest, PointwiseMatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto kind : {PointwiseLossKind::squared, PointwiseLossKind::absolute,
                            PointwiseLossKind::binary_logistic}) {
      for (const auto& [rows, width] : kShapes) {
        for (const std::int64_t repeats : {1, 2}) {
          const std::int64_t count = rows * width, targets = rows / repeats;
          if (targets * repeats != rows) continue;
          Guarded<T> f(normals(count, 1, 2.0)), t(normals(targets * width, 2)), slopes(rows),
              derivatives(count), only(rows);
          if (kind == PointwiseLossKind::binary_logistic) {
            for (std::int64_t i = 0; i < targets * width; ++i) t[i] = static_cast<T>(i % 2);
          }
          std::vector<double> expected(rows), derivative(count);
          for (std::int64_t i = 0; i < count; ++i) {
            const Point at = exact_point(kind, 2.5, f[i], t[i % (targets * width)]);
            expected[i / width] += at.slope / static_cast<double>(width);
            derivative[i] = at.derivative / static_cast<double>(width);
          }
          PointwiseSlope<T> a{kind, T(2.5),  f.data(), t.data(), slopes.data(), derivatives.data(),
                              rows, targets, width};
          run(test_device(), a);
          a.slopes = only.data();
          a.derivatives = nullptr;
          run(test_device(), a);
          const auto what = fmt::format("kind {} [{}, {}] of {} targets", static_cast<int>(kind),
                                        rows, width, targets);
          expect_close(slopes, expected, 100, 4, what);  // 2 f (f - t) of normals stays below that
          expect_close(derivatives, derivative, 40, 4, what);
          EXPECT_EQ(slopes.bits(), only.bits()) << what;
        }
      }
    }
  });
}

TYPED_TEST(LossSlopeTest, PointwiseOfExtremeLogitsAndNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Guarded<T> f(std::vector<double>{10000, -10000, 10000, -10000, 0, std::nan("")}),
        t(std::vector<double>{1, 0, 0, 1, 0, 1}), slopes(6), derivatives(6);
    PointwiseSlope<T> a{PointwiseLossKind::binary_logistic,
                        1,
                        f.data(),
                        t.data(),
                        slopes.data(),
                        derivatives.data(),
                        6,
                        6,
                        1};
    run(test_device(), a);
    EXPECT_EQ((std::vector<T>(slopes.data(), slopes.data() + 5)),
              (std::vector<T>{0, 0, 10000, 10000, 0}));
    EXPECT_EQ((std::vector<T>(derivatives.data(), derivatives.data() + 5)),
              (std::vector<T>{0, 0, 1, -1, 0.5}));
    for (const auto kind : {PointwiseLossKind::squared, PointwiseLossKind::absolute,
                            PointwiseLossKind::binary_logistic}) {
      a.kind = kind;
      run(test_device(), a);
      EXPECT_TRUE(std::isnan(slopes[5]) && std::isnan(derivatives[5])) << static_cast<int>(kind);
    }
  });
}

/// sum_c (p_c - y_c) z_c and p_k (1 + z_k - sum_c p_c z_c) - y_k, as printed.
double exact_cross_entropy(const std::vector<double>& z, std::size_t chosen, double* derivatives) {
  const double largest = *std::max_element(z.begin(), z.end());
  double sum = 0, mean = 0;
  for (const double x : z) sum += std::exp(x - largest);
  for (const double x : z) mean += std::exp(x - largest) / sum * x;
  for (std::size_t k = 0; k < z.size(); ++k) {
    derivatives[k] = std::exp(z[k] - largest) / sum * (1 + z[k] - mean) - (k == chosen ? 1 : 0);
  }
  return mean - z[chosen];
}

TYPED_TEST(LossSlopeTest, CrossEntropyMatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [rows, width] : kShapes) {
      for (const double magnitude : {3.0, 1e4}) {
        for (const double shift : {0.0, 1e4}) {
          Guarded<T> logits(normals(rows * width, 3, magnitude)), slopes(rows),
              derivatives(rows * width), only(rows);
          for (std::int64_t i = 0; i < rows * width; ++i) logits[i] += static_cast<T>(shift);
          const std::int64_t targets = rows % 2 == 0 ? rows / 2 : rows;
          Shared<std::int32_t> classes(targets);
          for (std::int64_t i = 0; i < targets; ++i) {
            classes[i] = static_cast<std::int32_t>((i * 5 + 1) % width);
          }
          const std::vector<double> z = logits.to_vector();
          std::vector<double> expected(rows), derivative(rows * width);
          for (std::int64_t i = 0; i < rows; ++i) {
            expected[i] = exact_cross_entropy({z.begin() + i * width, z.begin() + (i + 1) * width},
                                              classes[i % targets], derivative.data() + i * width);
          }
          CrossEntropySlope<T> a{logits.data(), classes.data(), slopes.data(), derivatives.data(),
                                 rows,          targets,        width};
          run(test_device(), a);
          a.slopes = only.data();
          a.derivatives = nullptr;
          run(test_device(), a);
          const auto what =
              fmt::format("[{}, {}] magnitude {} shift {}", rows, width, magnitude, shift);
          // The formula as printed, in f64, loses digits to the shift; f32 has fewer to lose.
          const double lost = std::is_same_v<T, double> ? magnitude + shift : 1;
          expect_close(slopes, expected, 4 * magnitude + lost, 8, what);
          expect_close(derivatives, derivative, 4 + lost, 8, what);
          EXPECT_EQ(slopes.bits(), only.bits()) << what;
        }
      }
    }
  });
}

TYPED_TEST(LossSlopeTest, CrossEntropyKeepsTheDigitsOfASureSample) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Guarded<T> logits(std::vector<double>{40, 0, 0, std::nan("")}), slopes(2), derivatives(4);
    Shared<std::int32_t> classes{0, 1};
    run(test_device(), CrossEntropySlope<T>{logits.data(), classes.data(), slopes.data(),
                                            derivatives.data(), 2, 2, 2});
    // p of the other class is e^-40: the slope is -40 p, the derivatives -(1 + 40) p and (1 - 40)
    // p.
    const double p = std::exp(-40.0);
    EXPECT_NEAR(slopes[0] / (-40 * p), 1, 1e-6);
    EXPECT_NEAR(derivatives[0] / (39 * p), 1, 1e-6);
    EXPECT_NEAR(derivatives[1] / (-39 * p), 1, 1e-6);
    EXPECT_TRUE(std::isnan(slopes[1]) && std::isnan(derivatives[2]) && std::isnan(derivatives[3]));
  });
}

TEST(LossSlope, SameBitsForAnyThreadCountAndSchedule) {
  for (const std::int64_t width : {1, 7, 33}) {
    expect_same_bits<float>([width] {
      const std::int64_t rows = 130;
      Guarded<float> f(normals(rows * width, 1)), t(normals(rows * width / 2, 2)), slopes(rows),
          derivatives(rows * width), others(rows), of_logits(rows * width);
      Shared<std::int32_t> classes(rows);
      run(test_device(),
          PointwiseSlope<float>{PointwiseLossKind::binary_logistic, 2, f.data(), t.data(),
                                slopes.data(), derivatives.data(), rows, rows / 2, width});
      run(test_device(), CrossEntropySlope<float>{f.data(), classes.data(), others.data(),
                                                  of_logits.data(), rows, rows, width});
      return joined(slopes, derivatives, others, of_logits);
    });
  }
}

}  // namespace
}  // namespace cmir::kernels
