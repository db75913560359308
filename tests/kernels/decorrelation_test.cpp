#include "kernels/loss/decorrelation.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class DecorrelationKernelTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(DecorrelationKernelTest, Scalars);

/// Sizes about a device block's rows, a warp and its vectors, and the 1024 from which a row has a
/// block.
TYPED_TEST(DecorrelationKernelTest, CrossNormMatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const std::int64_t n : {0, 1, 3, 4, 31, 32, 33, 130, 1025}) {
      for (const double alpha : {1.0, 0.1}) {
        Guarded<T> c(normals(n * n, 1)), value(1);
        Guarded<double> sums(n), factor(1);
        auto expected = c.to_vector();
        long double square = 0;  // more exact than f64 kernels
        for (std::int64_t i = 0; i < n * n; ++i) {
          const double w = i / n == i % n ? 1 : alpha;
          square += w * w * expected[i] * expected[i];
          expected[i] *= w * w;
        }
        const auto norm = static_cast<double>(std::sqrt(square));
        run(test_device(),
            CrossNorm<T>{c.data(), n, alpha, 0.7, sums.data(), value.data(), factor.data()});
        const auto what = fmt::format("n {} alpha {}", n, alpha);
        expect_close(c, expected, 6, 2, what);
        expect_close(value, {0.7 * norm}, norm, 8, what);  // f64: a row is one sum of n terms
        EXPECT_NEAR(factor[0], norm == 0 ? 0 : 0.7 / norm, norm == 0 ? 0 : 1e-12 / norm) << what;
      }
    }
  });
}

template <class T>
class RowDotTest : public ::testing::Test {};
using RowDotScalars = ::testing::Types<float, double, BFloat16>;
TYPED_TEST_SUITE(RowDotTest, RowDotScalars);

TYPED_TEST(RowDotTest, MatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [rows, width] :
         {std::pair{0, 3}, {3, 0}, {1, 1}, {5, 31}, {7, 132}, {9, 150}, {2, 1025}, {2, 1028}}) {
      for (const std::int64_t shift : {0, 1}) {
        Guarded<T> a(normals(rows * width + shift, 1));
        Guarded<SumOf<T>> b(normals(rows * width + shift, 2)), diagonal(rows);
        std::vector<double> expected(rows);
        for (std::int64_t i = 0; i < rows * width; ++i) {
          expected[i / width] += exact(a[shift + i]) * exact(b[shift + i]);
        }
        run(test_device(),
            RowDot<T>{a.data() + shift, b.data() + shift, diagonal.data(), rows, width});
        expect_close(diagonal, expected, 4 * std::sqrt(1.0 * width + 1), 4,
                     fmt::format("[{}, {}] shift {}", rows, width, shift));
      }
    }
  });
}

template <class T>
void check_gram_norm(Guarded<T>& a, Guarded<T>& b, Guarded<T>* diagonal, std::int64_t d,
                     double alpha) {
  Guarded<T> value(1);
  Guarded<double> sums(3 * d), factor(1);
  long double xy = 0, xx = 0, yy = 0, squares = 0;  // more exact than f64 kernels
  for (std::int64_t i = 0; i < d * d; ++i) {
    const double p = a[i], q = b[i];
    xy += p * q;
    xx += p * p;
    yy += q * q;
  }
  const std::int64_t rows = diagonal ? static_cast<std::int64_t>(diagonal->span().size()) : 0;
  for (std::int64_t i = 0; i < rows; ++i) squares += std::pow(double((*diagonal)[i]), 2);
  const double weight = alpha * alpha;
  const auto square = static_cast<double>(weight * xy + (1 - weight) * squares);
  const auto resolution =
      static_cast<double>(std::numeric_limits<T>::epsilon() * weight * std::sqrt(xx * yy));
  run(test_device(), GramNorm<T>{a.data(), b.data(), diagonal ? diagonal->data() : nullptr, d, rows,
                                 alpha, 0.7, sums.data(), value.data(), factor.data()});
  const double norm = std::sqrt(std::max(square, 0.0)), floor = std::max(square, resolution);
  const auto what = fmt::format("d {} rows {} alpha {}", d, rows, alpha);
  expect_close(value, {0.7 * norm}, norm,
               4 + (sizeof(T) == 8 ? 1e-2 * static_cast<double>(d) : 0.0), what);
  const double expected = floor == 0 ? 0 : 0.7 / std::sqrt(floor);
  EXPECT_NEAR(factor[0], expected, 1e-9 * expected) << what;
}

TYPED_TEST(DecorrelationKernelTest, GramNormMatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const std::int64_t d : {0, 1, 3, 4, 31, 33, 132, 1028}) {
      auto values = normals(d * d, 1);
      Guarded<T> a(values);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += 0.1 * static_cast<double>(i % 7);
      Guarded<T> b(values), diagonal(normals(700, 3));  // <a, b> > 0, as of Gram matrices
      check_gram_norm<T>(a, b, nullptr, d, 1.0);
      check_gram_norm<T>(a, b, &diagonal, d, 0.1);
      for (T& x : b.span())
        x = -x;  // rounding noise may do this: the value is 0, the factor bounded
      check_gram_norm<T>(a, b, nullptr, d, 1.0);
    }
  });
}

TYPED_TEST(DecorrelationKernelTest, NaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    const std::int64_t d = 5;
    Guarded<T> c(normals(d * d, 1)), b(normals(d * d, 2)), value(1);
    Guarded<double> sums(3 * d), factor(1);
    c[7] = std::numeric_limits<T>::quiet_NaN();
    run(test_device(), GramNorm<T>{c.data(), b.data(), nullptr, d, 0, 1, 1, sums.data(),
                                   value.data(), factor.data()});
    EXPECT_TRUE(std::isnan(value[0]));
    run(test_device(), CrossNorm<T>{c.data(), d, 0.5, 1, sums.data(), value.data(), factor.data()});
    EXPECT_TRUE(std::isnan(value[0]));
  });
}

TEST(DecorrelationKernel, SameBitsForAnyThreadCountAndSchedule) {
  for (const std::int64_t n : {37, 1026}) {
    expect_same_bits<float>([n] {
      Guarded<float> c(normals(n * n, 1)), b(normals(n * n, 2)), value(1), gram(1), diagonal(n);
      Guarded<double> sums(3 * n), factor(1);
      run(test_device(), RowDot<float>{c.data(), b.data(), diagonal.data(), n, n});
      run(test_device(), GramNorm<float>{c.data(), c.data(), diagonal.data(), n, n, 0.5, 1,
                                         sums.data(), gram.data(), factor.data()});
      run(test_device(),
          CrossNorm<float>{c.data(), n, 0.5, 1, sums.data(), value.data(), factor.data()});
      return joined(c, diagonal, gram, value);
    });
  }
}

}  // namespace
}  // namespace cmir::kernels
