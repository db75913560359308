#include "kernels/invariance/hsic.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;
using Values = std::vector<double>;
using Wide = std::vector<long double>;  // what cancels in the oracle

template <class T>
class HsicKernelTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(HsicKernelTest, Scalars);

struct Problem {
  std::int64_t n, x_width, y_width;
  double gamma_x, gamma_y;
  bool unbiased;
};

Wide kernel_matrix(const Values& x, std::int64_t n, std::int64_t width, double gamma,
                   bool without_diagonal) {
  Wide k(n * n);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      long double distance = 0;
      for (std::int64_t c = 0; c < width; ++c) {
        const long double difference = x[i * width + c] - x[j * width + c];
        distance += difference * difference;
      }
      k[i * n + j] = without_diagonal && i == j ? 0 : std::exp(-gamma * distance);
    }
  }
  return k;
}

/// Rows and columns centred: H K H.
Wide centred(const Wide& k, std::int64_t n) {
  Wide rows(n), out(k);
  long double all = 0;
  for (std::int64_t i = 0; i < n * n; ++i) {
    rows[i / n] += k[i] / static_cast<long double>(n);
    all += k[i] / static_cast<long double>(n * n);
  }
  for (std::int64_t i = 0; i < n * n; ++i) out[i] += all - rows[i / n] - rows[i % n];
  return out;
}

/// Song et al.'s equation 5 as printed, its derivative by K's entries in `by_k`.
long double unbiased_estimate(const Wide& k, const Wide& l, std::int64_t count, Wide& by_k) {
  const auto n = static_cast<long double>(count);
  Wide l_rows(count), k_rows(count);
  long double trace = 0, k_all = 0, l_all = 0, between = 0;
  for (std::int64_t i = 0; i < count * count; ++i) {
    trace += k[i] * l[i];
    k_rows[i / count] += k[i];
    l_rows[i / count] += l[i];
    k_all += k[i];
    l_all += l[i];
  }
  for (std::int64_t i = 0; i < count; ++i) between += k_rows[i] * l_rows[i];
  const long double factor = 1 / (n * (n - 3));
  for (std::int64_t i = 0; i < count * count; ++i) {
    by_k[i] = factor * (l[i] + l_all / ((n - 1) * (n - 2)) -
                        (l_rows[i / count] + l_rows[i % count]) / (n - 2));
  }
  return factor * (trace + k_all * l_all / ((n - 1) * (n - 2)) - 2 / (n - 2) * between);
}

/// The estimate by matrices, and the gradient by x (by y with the sides exchanged).
struct Expected {
  double value;
  Values dx;
};
Expected by_matrices(const Values& x, const Values& y, const Problem& p) {
  const std::int64_t n = p.n;
  const Wide k = kernel_matrix(x, n, p.x_width, p.gamma_x, p.unbiased),
             l = kernel_matrix(y, n, p.y_width, p.gamma_y, p.unbiased);
  Expected out{0, Values(n * p.x_width)};
  Wide by_k(n * n);
  long double value = 0;
  if (p.unbiased) {
    value = unbiased_estimate(k, l, n, by_k);
  } else {
    const Wide h = centred(l, n);  // tr(K H L H) / n^2
    for (std::int64_t i = 0; i < n * n; ++i) {
      by_k[i] = h[i] / static_cast<long double>(n * n);
      value += k[i] * by_k[i];
    }
  }
  out.value = static_cast<double>(value);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      const auto slope = static_cast<double>(-2 * p.gamma_x * k[i * n + j] * by_k[i * n + j]);
      for (std::int64_t c = 0; c < p.x_width; ++c) {
        const double part = slope * (x[i * p.x_width + c] - x[j * p.x_width + c]);
        out.dx[i * p.x_width + c] += part;
        out.dx[j * p.x_width + c] -= part;
      }
    }
  }
  return out;
}

double largest(const Values& values, double floor) {
  double result = floor;
  for (const double x : values) result = std::max(result, std::abs(x));
  return result;
}

template <class T>
void compare(const Problem& p, double magnitude, double shift = 0, double floor = 1e-6) {
  Values x_fill = normals(p.n * p.x_width, 1, magnitude);
  Values y_fill = normals(p.n * p.y_width, 2, magnitude);
  for (std::int64_t i = 0; i < p.n; ++i) y_fill[i * p.y_width] += x_fill[i * p.x_width];
  for (double& element : x_fill) element += shift;
  Guarded<T> x(x_fill), y(y_fill), value(1), dx(p.n * p.x_width), dy(p.n * p.y_width), only(1);
  Guarded<double> scratch(Hsic<T>::workspace(p.n));
  Hsic<T> a{x.data(),   y.data(),       p.n,          p.x_width, p.y_width, p.gamma_x, p.gamma_y,
            p.unbiased, scratch.data(), value.data(), dx.data(), dy.data()};
  run(test_device(), a);
  a.value = only.data();
  a.dx = a.dy = nullptr;
  run(test_device(), a);
  const Expected by_x = by_matrices(x.to_vector(), y.to_vector(), p);
  const Expected by_y = by_matrices(y.to_vector(), x.to_vector(),
                                    {p.n, p.y_width, p.x_width, p.gamma_y, p.gamma_x, p.unbiased});
  const auto what = fmt::format(
      "{} rows, widths {} and {}, gammas {} and {}, unbiased {}, magnitude {}, shift {}", p.n,
      p.x_width, p.y_width, p.gamma_x, p.gamma_y, p.unbiased, magnitude, shift);
  // Weights are f64, which is no wider than T there.
  constexpr bool kWide = std::is_same_v<T, double>;
  expect_close(value, {by_x.value}, 1, kWide ? 8 : 1, what);
  expect_close(dx, by_x.dx, largest(by_x.dx, floor), kWide ? 4096 : 64, what);
  expect_close(dy, by_y.dx, largest(by_y.dx, floor), kWide ? 4096 : 64, what);
  EXPECT_EQ(value.bits(), only.bits()) << what;
}

TYPED_TEST(HsicKernelTest, MatchesTheEstimatorsByMatrices) {
  for_each_variant<TypeParam>([] {
    for (const bool unbiased : {false, true}) {
      for (const std::int64_t n : {1, 2, 4, 7, 31, 33, 70}) {
        if (unbiased && n < 4) continue;
        for (const auto& [x_width, y_width] : {std::pair{1, 1}, {3, 7}, {33, 2}, {31, 40}}) {
          compare<TypeParam>({n, x_width, y_width, 0.5 / x_width, 0.3 / y_width, unbiased}, 1);
        }
      }
    }
  });
}

TYPED_TEST(HsicKernelTest, FarNearAndIdenticalRows) {
  for_each_variant<TypeParam>([] {
    for (const bool unbiased : {false, true}) {
      compare<TypeParam>({9, 3, 2, 1, 1, unbiased}, 1e4);            // only the diagonal is left
      compare<TypeParam>({9, 3, 2, 1, 1, unbiased}, 1e18);           // f32: squares overflow
      compare<TypeParam>({9, 3, 2, 1, 1, unbiased}, 0.03, 0, 1e-3);  // kernels near 1
      compare<TypeParam>({9, 3, 2, 1, 1, unbiased}, 0);
      compare<TypeParam>({9, 3, 2, 0.1, 1, unbiased}, 1, 1000);  // far from the origin
    }
  });
}

TYPED_TEST(HsicKernelTest, NaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Guarded<T> x(normals(18, 1)), y(normals(9, 2)), value(1), dx(18), dy(9);
    Guarded<double> scratch(Hsic<T>::workspace(9));
    y[3] = std::numeric_limits<T>::quiet_NaN();
    run(test_device(), Hsic<T>{x.data(), y.data(), 9, 2, 1, 1, 1, true, scratch.data(),
                               value.data(), dx.data(), dy.data()});
    EXPECT_TRUE(std::isnan(value[0]));
    EXPECT_TRUE(std::isnan(dx[0]));
  });
}

TEST(HsicKernel, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    const std::int64_t n = 70, width = 35;
    Guarded<float> x(normals(n * width, 1, 0.2)), y(normals(n, 2)), value(1), dx(n * width), dy(n);
    Guarded<double> scratch(Hsic<float>::workspace(n));
    run(test_device(), Hsic<float>{x.data(), y.data(), n, width, 1, 0.5, 0.5, false, scratch.data(),
                                   value.data(), dx.data(), dy.data()});
    return joined(value, dx, dy);
  });
}

}  // namespace
}  // namespace cmir::kernels
