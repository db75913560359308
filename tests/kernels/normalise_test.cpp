#include "kernels/loss/normalise.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class NormaliseTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(NormaliseTest, Scalars);

struct Case {
  std::int64_t rows, width;
  NormaliseAxis axis;
  bool unbiased = false;
  double epsilon = 1e-12;
  std::int64_t groups() const { return axis == NormaliseAxis::rows ? rows : width; }
  std::int64_t length() const { return axis == NormaliseAxis::rows ? width : rows; }
  std::int64_t at(std::int64_t group, std::int64_t k) const {
    return axis == NormaliseAxis::rows ? group * width + k : k * width + group;
  }
  double divisor() const {
    return static_cast<double>(unbiased ? std::max<std::int64_t>(length() - 1, 1) : length());
  }
  std::string name() const {
    return fmt::format("[{}, {}] axis {} unbiased {} epsilon {}", rows, width,
                       static_cast<int>(axis), unbiased, epsilon);
  }
};

template <class T>
void check_forward(const Case& c, double shift) {
  auto values = normals(c.rows * c.width, 1);
  for (double& x : values) x += shift;
  Guarded<T> x(values), y(c.rows * c.width);
  Guarded<double> inverse(c.groups());
  std::vector<double> expected(c.rows * c.width), expected_inverse(c.groups());
  for (std::int64_t g = 0; g < c.groups(); ++g) {
    long double mean = 0, squares = 0;  // more exact than f64 kernels
    for (std::int64_t k = 0; k < c.length(); ++k) mean += x[c.at(g, k)];
    mean /= c.length();
    for (std::int64_t k = 0; k < c.length(); ++k) {
      squares += (x[c.at(g, k)] - mean) * (x[c.at(g, k)] - mean);
    }
    const auto variance = static_cast<double>(squares / c.divisor()) + c.epsilon;
    expected_inverse[g] = variance == 0 ? 0 : 1 / std::sqrt(variance);
    for (std::int64_t k = 0; k < c.length(); ++k) {
      expected[c.at(g, k)] = static_cast<double>(x[c.at(g, k)] - mean) * expected_inverse[g];
    }
  }
  run(test_device(), NormaliseForward<T>{x.data(), y.data(), inverse.data(), c.rows, c.width,
                                         c.axis, c.unbiased, c.epsilon});
  // Kernels work in f64, whose mean is off by length eps(f64) of the values; |y| < sqrt(length).
  const double mean_error = (5 + std::abs(shift)) * static_cast<double>(c.length());
  const double norm = std::sqrt(1.0 * c.length()) + (sizeof(T) == 8 ? 10 * mean_error : 0);
  expect_close(y, expected, norm, 4, c.name());
  for (std::int64_t g = 0; g < c.groups() && c.length() > 0; ++g) {
    ASSERT_NEAR(inverse[g], expected_inverse[g], 1e-9 * (1 + expected_inverse[g])) << c.name();
  }
}

/// dx with any y and inverse_std: backward is a formula in them. dx is dy's array.
template <class T>
void check_backward(const Case& c) {
  Guarded<T> y(normals(c.rows * c.width, 1)), dx(normals(c.rows * c.width, 2)),
      cotangent(std::vector<double>{-1.5});
  Guarded<double> inverse(normals(c.groups(), 3)), factor(std::vector<double>{0.25});
  const auto dy = dx.to_vector();
  std::vector<double> expected(c.rows * c.width);
  double largest = 1;
  for (std::int64_t g = 0; g < c.groups(); ++g) {
    long double mean = 0, along = 0;
    for (std::int64_t k = 0; k < c.length(); ++k) {
      mean += dy[c.at(g, k)];
      along += dy[c.at(g, k)] * y[c.at(g, k)] / c.divisor();
    }
    mean /= c.length();
    for (std::int64_t k = 0; k < c.length(); ++k) {
      double& e = expected[c.at(g, k)];
      e = -1.5 * 0.25 * inverse[g] *
          static_cast<double>(dy[c.at(g, k)] - mean - y[c.at(g, k)] * along);
      largest = std::max(largest, std::abs(e));
    }
  }
  run(test_device(),
      NormaliseBackward<T>{y.data(), dx.data(), inverse.data(), cotangent.data(), factor.data(),
                           dx.data(), c.rows, c.width, c.axis, c.unbiased});
  expect_close(dx, expected, largest, 16, c.name());
}

/// Widths about a warp, a warp of vectors, and the 1024 from which a row has a block; rows about
/// the eight threads of a column.
TYPED_TEST(NormaliseTest, MatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto axis : {NormaliseAxis::rows, NormaliseAxis::columns}) {
      for (const auto& [rows, width] : {std::pair{1, 1},
                                        {1, 7},
                                        {7, 1},
                                        {8, 32},
                                        {9, 33},
                                        {17, 31},
                                        {5, 64},
                                        {48, 150},
                                        {3, 132},
                                        {2, 1025},
                                        {2, 1028}}) {
        for (const bool unbiased : {false, true}) {
          for (const double epsilon : {1e-12, 0.1}) {
            const Case c{rows, width, axis, unbiased, epsilon};
            if (c.length() > 1 || epsilon > 0.01) check_forward<T>(c, 0);
            check_backward<T>(c);
          }
        }
        check_forward<T>({rows, width, axis, false, 0.1}, 1000);
      }
    }
  });
}

TYPED_TEST(NormaliseTest, EmptyAndConstantInputs) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto axis : {NormaliseAxis::rows, NormaliseAxis::columns}) {
      check_forward<T>({0, 5, axis}, 0);
      check_backward<T>({0, 5, axis});
      Guarded<T> x(std::vector<double>(4 * 4, 0.1)), y(4 * 4);
      Guarded<double> inverse(4);
      run(test_device(),
          NormaliseForward<T>{x.data(), y.data(), inverse.data(), 4, 4, axis, false, 0});
      for (std::int64_t i = 0; i < 16; ++i) EXPECT_NEAR(y[i], 0, 1e-6);
      x[0] = std::numeric_limits<T>::quiet_NaN();
      run(test_device(),
          NormaliseForward<T>{x.data(), y.data(), inverse.data(), 4, 4, axis, false, 1});
      for (std::int64_t i = 0; i < 16; ++i) {
        const bool poisoned = axis == NormaliseAxis::rows ? i < 4 : i % 4 == 0;
        EXPECT_EQ(std::isnan(y[i]), poisoned) << i;
      }
    }
  });
}

TEST(Normalise, SameBitsForAnyThreadCountAndSchedule) {
  for (const auto axis : {NormaliseAxis::rows, NormaliseAxis::columns}) {
    for (const auto& [rows, width] : {std::pair{19, 50}, {2, 1030}}) {
      expect_same_bits<float>([&, rows = rows, width = width] {
        Guarded<float> x(normals(rows * width, 1)), y(rows * width), dx(rows * width),
            cotangent(std::vector<double>{-1.5});
        Guarded<double> inverse(axis == NormaliseAxis::rows ? rows : width),
            factor(std::vector<double>{0.25});
        run(test_device(), NormaliseForward<float>{x.data(), y.data(), inverse.data(), rows, width,
                                                   axis, true, 1e-8});
        run(test_device(),
            NormaliseBackward<float>{y.data(), x.data(), inverse.data(), cotangent.data(),
                                     factor.data(), dx.data(), rows, width, axis, true});
        return joined(y, dx);
      });
    }
  }
}

}  // namespace
}  // namespace cmir::kernels
