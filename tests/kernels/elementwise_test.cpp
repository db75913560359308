// activation.h and binary.h against the formulas in f64.
#include "kernels/elementwise/activation.h"
#include "kernels/elementwise/binary.h"

#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class ElementwiseTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ElementwiseTest, Scalars);

constexpr Activation kActivations[] = {Activation::none, Activation::relu,    Activation::gelu,
                                       Activation::tanh, Activation::sigmoid, Activation::exp};

double phi(double x) { return std::exp(-0.5 * x * x) / std::sqrt(8 * std::atan(1.0)); }
double cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

double value(Activation activation, double x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::isnan(x) ? x : std::max(x, 0.0);
    case Activation::gelu:
      return x * cdf(x);
    case Activation::tanh:
      return std::tanh(x);
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::exp:
      return std::exp(x);
  }
  return 0;
}
/// From what forward saved.
double derivative(Activation activation, double saved) {
  switch (activation) {
    case Activation::none:
      return 1;
    case Activation::relu:
      return saved > 0 ? 1 : 0;
    case Activation::gelu:
      return cdf(saved) + saved * phi(saved);
    case Activation::tanh:
      return 1 - saved * saved;
    case Activation::sigmoid:
      return saved * (1 - saved);
    case Activation::exp:
      return saved;
  }
  return 0;
}

TYPED_TEST(ElementwiseTest, ActivationForward) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    for (const Activation activation : kActivations) {
      for (const std::int64_t count : {0, 1, 7, 8, 9, 17, 33, 4097}) {
        Guarded<T> x(normals(count, 1, 2.0)), y(count);
        std::vector<double> expected;
        for (const double v : x.to_vector()) expected.push_back(value(activation, v));
        run(test_device(), ActivationForward<T>{activation, x.data(), y.data(), count});
        for (std::int64_t i = 0; i < count; ++i) {  // each to its own magnitude: exp spans many
          expect_close<T>(
              {&y[i], 1}, {expected[i]}, 1 + std::abs(expected[i]), 4,
              fmt::format("activation {} count {}", static_cast<int>(activation), count));
        }
      }
    }
  });
}

TYPED_TEST(ElementwiseTest, ActivationsOfExtremes) {
  using T = TypeParam;
  const double infinity = std::numeric_limits<double>::infinity(), nan = std::nan("");
  const std::vector<double> xs = {0, -0.0, 1e-30, -1e-30, 1e4, -1e4, nan, -20, 20};
  for_each_variant<TypeParam>([&] {
    for (const Activation activation : kActivations) {
      Guarded<T> x(xs), y(static_cast<std::int64_t>(xs.size()));
      std::vector<double> expected;
      for (const double v : x.to_vector()) expected.push_back(static_cast<T>(value(activation, v)));
      run(test_device(), ActivationForward<T>{activation, x.data(), y.data(),
                                              static_cast<std::int64_t>(xs.size())});
      for (std::size_t i = 0; i < xs.size(); ++i) {
        expect_close<T>({&y[static_cast<std::int64_t>(i)], 1}, {expected[i]},
                        std::abs(expected[i]) + 1e-30, 100,
                        fmt::format("activation {} at {}", static_cast<int>(activation), xs[i]));
      }
    }
    Guarded<T> x(std::vector<double>{infinity, -infinity}), y(2);
    run(test_device(), ActivationForward<T>{Activation::sigmoid, x.data(), y.data(), 2});
    expect_close(y, {1, 0}, 1, 0, "sigmoid at infinity");
    run(test_device(), ActivationForward<T>{Activation::tanh, x.data(), y.data(), 2});
    expect_close(y, {1, -1}, 1, 0, "tanh at infinity");
  });
}

TYPED_TEST(ElementwiseTest, ActivationBackwardWithColumnSums) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    for (const Activation activation : kActivations) {
      for (const auto& [rows, width] :
           {std::pair{0, 3}, {3, 0}, {1, 1}, {7, 9}, {64, 8}, {65, 33}, {200, 17}, {66, 132}}) {
        const std::int64_t count = rows * width;
        Guarded<T> dy(normals(count, 1)), saved(normals(count, 2)), dx(count), sums(width);
        Shared<double> workspace(ActivationBackward<T>::workspace_size(rows, width));
        std::vector<double> expected(count), expected_sums(width);
        const auto dy0 = dy.to_vector(), saved0 = saved.to_vector();
        for (std::int64_t i = 0; i < count; ++i) {
          expected[i] = dy0[i] * derivative(activation, saved0[i]);
          expected_sums[i % width] += expected[i];
        }
        run(test_device(), ActivationBackward<T>{activation, dy.data(), saved.data(), dx.data(),
                                                 rows, width, sums.data(), workspace.data()});
        const auto where = fmt::format("activation {} rows {} width {}",
                                       static_cast<int>(activation), rows, width);
        expect_close(dx, expected, 40, 4, where);
        expect_close(sums, expected_sums, 10 + rows, 4, where);
        if (activation == Activation::none) {  // only the sums
          run(test_device(), ActivationBackward<T>{activation, dy.data(), nullptr, nullptr, rows,
                                                   width, sums.data(), workspace.data()});
          expect_close(sums, expected_sums, 10 + rows, 4, where);
        }
      }
    }
  });
}

/// dy and what forward saved of an activation with dropout behind it; and the gradient.
template <class T>
struct DroppedCase {
  Guarded<T> dy, saved;
  std::vector<double> expected, expected_sums;

  DroppedCase(Activation activation, std::int64_t rows, std::int64_t width, const DropoutMask& mask)
      : dy(normals(rows * width, 1)),
        saved(normals(rows * width, 2)),
        expected(rows * width),
        expected_sums(width) {
    const bool output = saved_by(activation) == ActivationSaves::output;
    for (std::int64_t i = 0; i < rows * width; ++i) {
      const bool kept = mask.stream.uniform(i) >= mask.p;
      const double before = output ? value(activation, saved[i]) : static_cast<double>(saved[i]);
      if (output) saved[i] = static_cast<T>(kept ? before / (1 - mask.p) : 0.0);
      expected[i] = kept ? dy[i] / (1 - mask.p) * derivative(activation, before) : 0.0;
      expected_sums[i % width] += expected[i];
    }
  }
};

TYPED_TEST(ElementwiseTest, ActivationBackwardThroughDropout) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    for (const Activation activation : kActivations) {
      for (const double p : {0.1, 0.9}) {
        for (const auto& [rows, width] :
             {std::pair{0, 3}, {3, 0}, {1, 1}, {7, 9}, {64, 8}, {65, 33}, {130, 47}, {66, 132}}) {
          const DropoutMask mask{p, {.seed = 0x123456789ABCDEF0u, .step = 5, .site = 9}};
          DroppedCase<T> c(activation, rows, width, mask);
          Guarded<T> dx(rows * width), sums(width), without_sums(rows * width);
          Shared<double> workspace(ActivationBackward<T>::workspace_size(rows, width));
          const T* saved = activation == Activation::none ? nullptr : c.saved.data();
          const auto where = fmt::format("activation {} rows {} width {} p {}",
                                         static_cast<int>(activation), rows, width, p);
          run(test_device(), ActivationBackward<T>{activation, c.dy.data(), saved, dx.data(), rows,
                                                   width, sums.data(), workspace.data(), mask});
          // exp's slope and 1 / (1 - p) multiply the rounding of what is saved
          expect_close(dx, c.expected, 40 / (1 - p), 4, where);
          expect_close(sums, c.expected_sums, (10 + rows) / (1 - p), 4, where);
          run(test_device(),
              ActivationBackward<T>{activation, c.dy.data(), saved, without_sums.data(), rows,
                                    width, nullptr, nullptr, mask});
          EXPECT_EQ(without_sums.bits(), dx.bits()) << where;
          run(test_device(), ActivationBackward<T>{activation, c.dy.data(), saved, c.dy.data(),
                                                   rows, width, nullptr, nullptr, mask});
          EXPECT_EQ(c.dy.bits(), dx.bits()) << where << " in place";
        }
      }
    }
  });
}

TYPED_TEST(ElementwiseTest, WhatWasDroppedHasNoGradientEvenFromNan) {
  using T = TypeParam;
  const DropoutMask mask{0.5, {.seed = 4}};
  for_each_variant<TypeParam>([&] {
    for (const Activation activation : kActivations) {
      const std::int64_t rows = 9, width = 13;
      DroppedCase<T> c(activation, rows, width, mask);
      for (T& gradient : c.dy.span()) gradient = std::numeric_limits<T>::quiet_NaN();
      Guarded<T> dx(rows * width);
      run(test_device(), ActivationBackward<T>{activation, c.dy.data(), c.saved.data(), dx.data(),
                                               rows, width, nullptr, nullptr, mask});
      for (std::int64_t i = 0; i < rows * width; ++i) {
        const bool kept = mask.stream.uniform(i) >= mask.p;
        EXPECT_TRUE(kept || dx[i] == T{0}) << i << " is " << dx[i];
      }
    }
  });
}

TYPED_TEST(ElementwiseTest, BinaryBroadcastsOverLeadingDimensions) {
  using T = TypeParam;
  const auto formula = [](BinaryOperation operation, double a, double b) {
    return operation == BinaryOperation::add        ? a + b
           : operation == BinaryOperation::subtract ? a - b
                                                    : a * b;
  };
  for_each_variant<TypeParam>([&] {
    for (const auto operation :
         {BinaryOperation::add, BinaryOperation::subtract, BinaryOperation::multiply}) {
      for (const auto& [rows, width] : {std::pair{0, 3},
                                        {3, 0},
                                        {1, 1},
                                        {9, 1},
                                        {5, 3},
                                        {3, 17},
                                        {1, 33},
                                        {2000, 9},
                                        {3, 16385}}) {
        Guarded<T> a(normals(rows * width, 1)), b(normals(width, 2)), y(rows * width);
        std::vector<double> expected(rows * width);
        for (std::int64_t i = 0; i < rows * width; ++i)
          expected[i] = formula(operation, a[i], b[i % width]);
        run(test_device(), Binary<T>{operation, a.data(), b.data(), y.data(), rows, width});
        expect_close(y, expected, 10, 1,
                     fmt::format("{} rows {} width {}", static_cast<int>(operation), rows, width));
      }
    }
  });
}

TYPED_TEST(ElementwiseTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<TypeParam>([] {
    const std::int64_t rows = 1001, width = 33;
    Guarded<T> dy(normals(rows * width, 1)), x(normals(rows * width, 2)), out(rows * width + width);
    Shared<double> workspace(ActivationBackward<T>::workspace_size(rows, width));
    run(test_device(),
        ActivationBackward<T>{Activation::gelu, dy.data(), x.data(), out.data(), rows, width,
                              out.data() + rows * width, workspace.data()});
    run(test_device(), ActivationBackward<T>{Activation::tanh, out.data(), x.data(), out.data(),
                                             rows, width, out.data() + rows * width,
                                             workspace.data(), DropoutMask{0.3, {.seed = 2}}});
    run(test_device(),
        Binary<T>{BinaryOperation::multiply, out.data(), x.data(), out.data(), rows, width});
    run(test_device(),
        ActivationForward<T>{Activation::tanh, out.data(), out.data(), rows * width});
    return out.bits();
  });
}

TEST(ElementwiseTest, AnyArrayMayBeMisaligned) {
  const std::int64_t rows = 70, width = 132;
  expect_same_for_any_alignment(
      {rows * width, rows * width, rows * width, width}, [&](const std::vector<float*>& p) {
        Shared<double> workspace(ActivationBackward<float>::workspace_size(rows, width));
        run(test_device(), ActivationBackward<float>{Activation::gelu, p[0], p[1], p[2], rows,
                                                     width, p[3], workspace.data()});
      });
  for (const auto& [m, n] : {std::pair{rows, width}, {7, 33}}) {
    expect_same_for_any_alignment(
        {m * n, m * n, m * n, n}, [&, m = m, n = n](const std::vector<float*>& p) {
          Shared<double> workspace(ActivationBackward<float>::workspace_size(m, n));
          const DropoutMask mask{0.3, {.seed = 2}};
          run(test_device(), ActivationBackward<float>{Activation::gelu, p[0], p[1], p[2], m, n,
                                                       p[3], workspace.data(), mask});
          run(test_device(), ActivationBackward<float>{Activation::sigmoid, p[2], p[1], p[2], m, n,
                                                       nullptr, nullptr, mask});
        });
  }
  expect_same_for_any_alignment({1003, 1003, 1003}, [](const std::vector<float*>& p) {
    run(test_device(), ActivationBackward<float>{Activation::tanh, p[0], p[1], p[2], 17, 59});
  });
  expect_same_for_any_alignment({1003, 1003}, [](const std::vector<float*>& p) {
    run(test_device(), ActivationForward<float>{Activation::gelu, p[0], p[1], 1003});
  });
  for (const auto& [m, n] : {std::pair{rows, width}, {1, 1003}, {1003, 1}}) {
    expect_same_for_any_alignment({m * n, n, m * n}, [&, m = m, n = n](const auto& p) {
      run(test_device(), Binary<float>{BinaryOperation::subtract, p[0], p[1], p[2], m, n});
    });
  }
}

}  // namespace
}  // namespace cmir::kernels
