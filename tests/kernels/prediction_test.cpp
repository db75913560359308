#include "kernels/loss/prediction.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class PredictionKernelTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PredictionKernelTest, Scalars);

/// One row a thread (up to width 8 on a device) and one a warp; rows about a block of either.
const std::pair<std::int64_t, std::int64_t> kShapes[] = {{0, 3},  {1, 1},  {127, 1}, {129, 1},
                                                         {5, 3},  {33, 7}, {9, 8},   {5, 9},
                                                         {3, 31}, {7, 33}, {2, 150}};

/// Of the targets: a third of those of the predictions where that is a whole number.
std::int64_t target_rows(std::int64_t rows) { return rows > 0 && rows % 3 == 0 ? rows / 3 : rows; }

struct Point {
  double value, derivative;
};
Point exact_point(PointwiseLossKind kind, double w, double p, double t) {
  if (kind == PointwiseLossKind::squared) return {(p - t) * (p - t), 2 * (p - t)};
  if (kind == PointwiseLossKind::absolute) return {std::abs(p - t), double(p > t) - double(p < t)};
  const double one = std::log1p(std::exp(-std::abs(p))) + std::max(-p, 0.0), zero = one + p;
  return {w * t * one + (1 - t) * zero, (1 - t) * std::exp(-one) - w * t * std::exp(-zero)};
}

TYPED_TEST(PredictionKernelTest, PointwiseLossMatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto kind : {PointwiseLossKind::squared, PointwiseLossKind::absolute,
                            PointwiseLossKind::binary_logistic}) {
      for (const auto& [rows, width] : kShapes) {
        const std::int64_t count = rows * width, targets = target_rows(rows) * width;
        Guarded<T> p(normals(count, 1, 2.0)), t(normals(targets, 2)), values(rows),
            derivatives(count), only(rows);
        if (kind == PointwiseLossKind::binary_logistic) {
          for (std::int64_t i = 0; i < targets; ++i) t[i] = static_cast<T>(i % 2);
        }
        std::vector<double> expected(rows), slope(count);
        for (std::int64_t i = 0; i < count; ++i) {
          const Point at = exact_point(kind, 2.5, p[i], t[i % targets]);
          expected[i / width] += at.value / static_cast<double>(width);
          slope[i] = at.derivative / static_cast<double>(width);
        }
        PointwiseLoss<T> a{kind,     T(2.5),        p.data(),
                           t.data(), values.data(), derivatives.data(),
                           rows,     width,         target_rows(rows)};
        run(test_device(), a);
        a.values = only.data();
        a.derivatives = nullptr;
        run(test_device(), a);
        const auto what = fmt::format("kind {} [{}, {}]", static_cast<int>(kind), rows, width);
        expect_close(values, expected, 60, 4, what);  // (p - t)^2 of normals stays below that
        expect_close(derivatives, slope, 20, 4, what);
        EXPECT_EQ(values.bits(), only.bits()) << what;
      }
    }
  });
}

TYPED_TEST(PredictionKernelTest, BinaryLogisticIsExactForExtremeLogitsAndNaNStays) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Guarded<T> p(std::vector<double>{10000, -10000, 10000, -10000, -30, std::nan("")}),
        t(std::vector<double>{1, 0, 0, 1, 0, 1}), values(6), derivatives(6);
    const auto logistic = PointwiseLossKind::binary_logistic;
    run(test_device(),
        PointwiseLoss<T>{logistic, 1, p.data(), t.data(), values.data(), derivatives.data(), 6, 1});
    EXPECT_EQ((std::vector<T>(values.data(), values.data() + 4)),
              (std::vector<T>{0, 0, 10000, 10000}));
    EXPECT_EQ((std::vector<T>(derivatives.data(), derivatives.data() + 4)),
              (std::vector<T>{0, 0, 1, -1}));
    EXPECT_NEAR(values[4] / std::exp(-30.0), 1, 1e-6);
    EXPECT_NEAR(derivatives[4] / std::exp(-30.0), 1, 1e-6);
    for (const auto kind : {logistic, PointwiseLossKind::absolute, PointwiseLossKind::squared}) {
      run(test_device(),
          PointwiseLoss<T>{kind, 1, p.data(), t.data(), values.data(), derivatives.data(), 6, 1});
      EXPECT_TRUE(std::isnan(values[5]) && std::isnan(derivatives[5]));
    }
  });
}

TYPED_TEST(PredictionKernelTest, CrossEntropyMatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [rows, width] : kShapes) {
      for (const double magnitude : {3.0, 1e30}) {
        Guarded<T> logits(normals(rows * width, 3, magnitude)), values(rows),
            derivatives(rows * width), only(rows);
        const std::int64_t targets = target_rows(rows);
        Shared<std::int32_t> classes(targets);
        for (std::int64_t i = 0; i < targets; ++i)
          classes[i] = static_cast<std::int32_t>((i * 5 + 1) % width);
        std::vector<double> expected(rows), slope(rows * width);
        double largest_logit = 1;
        for (std::int64_t i = 0; i < rows; ++i) {
          const std::int32_t chosen = classes[i % targets];
          const T* l = logits.data() + i * width;
          const double largest = *std::max_element(l, l + width);
          double sum = 0;
          for (std::int64_t c = 0; c < width; ++c) {
            sum += std::exp(l[c] - largest);
            largest_logit = std::max(largest_logit, std::abs(double(l[c])));
          }
          expected[i] = std::log(sum) + largest - l[chosen];
          for (std::int64_t c = 0; c < width; ++c) {
            slope[i * width + c] = std::exp(l[c] - largest) / sum - (c == chosen);
          }
        }
        CrossEntropy<T> a{logits.data(), classes.data(), values.data(), derivatives.data(),
                          rows,          width,          targets};
        run(test_device(), a);
        a.values = only.data();
        a.derivatives = nullptr;
        run(test_device(), a);
        const auto what = fmt::format("[{}, {}] magnitude {}", rows, width, magnitude);
        expect_close(values, expected, largest_logit, 8, what);
        expect_close(derivatives, slope, 4, 8, what);
        EXPECT_EQ(values.bits(), only.bits()) << what;
      }
    }
  });
}

TYPED_TEST(PredictionKernelTest, MeanOfSamplesAndScaleRowsMatchTheirFormulas) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const std::int64_t count : {1, 2, 255, 256, 257, 1000}) {
      Guarded<T> values(normals(count, 1)), mean(1);
      double sum = 0;
      for (std::int64_t i = 0; i < count; ++i) sum += values[i];
      run(test_device(), MeanOfSamples<T>{values.data(), mean.data(), count});
      expect_close(mean, {sum / static_cast<double>(count)}, 4, 2, fmt::format("{}", count));
    }
    for (const auto& [rows, width] : kShapes) {
      for (const bool one : {false, true}) {
        for (const std::int64_t shift : {0, 1}) {
          Guarded<T> derivatives(normals(rows * width + shift, 1)),
              cotangent(normals(one ? 1 : rows, 2)), dx(rows * width);
          std::vector<double> expected(rows * width);
          for (std::int64_t i = 0; i < rows * width; ++i) {
            expected[i] = 0.3 * cotangent[one ? 0 : i / width] * double(derivatives[shift + i]);
          }
          run(test_device(), ScaleRows<T>{derivatives.data() + shift, cotangent.data(), one, 0.3,
                                          dx.data(), rows, width});
          expect_close(dx, expected, 6, 4,
                       fmt::format("[{}, {}] one {} shift {}", rows, width, one, shift));
        }
      }
    }
  });
}

TEST(PredictionKernel, SameBitsForAnyThreadCountAndSchedule) {
  for (const std::int64_t width : {7, 33}) {
    expect_same_bits<float>([width] {
      const std::int64_t rows = 131;
      Guarded<float> p(normals(rows * width, 1)), t(normals(rows * width, 2)), values(rows),
          mean(1), derivatives(rows * width), slopes(rows * width), dx(rows * width);
      Shared<std::int32_t> classes(rows, 1);
      run(test_device(), PointwiseLoss<float>{PointwiseLossKind::squared, 1, p.data(), t.data(),
                                              values.data(), derivatives.data(), rows, width});
      run(test_device(), MeanOfSamples<float>{values.data(), mean.data(), rows});
      run(test_device(),
          CrossEntropy<float>{p.data(), classes.data(), values.data(), slopes.data(), rows, width});
      run(test_device(),
          ScaleRows<float>{slopes.data(), values.data(), false, 0.3, dx.data(), rows, width});
      return joined(values, mean, derivatives, slopes, dx);
    });
  }
}

}  // namespace
}  // namespace cmir::kernels
