#include "kernels/matrix/linear.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class LinearTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, BFloat16>;
TYPED_TEST_SUITE(LinearTest, Scalars);

double activated(Activation activation, double x) {
  switch (activation) {
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu:
      return x * 0.5 * std::erfc(-x / std::sqrt(2.0));
    case Activation::tanh:
      return std::tanh(x);
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    default:
      return x;
  }
}

TYPED_TEST(LinearTest, MatchesTheFormulaAndDropsOutByTheStreamElementByElement) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto activation : {Activation::none, Activation::relu, Activation::gelu,
                                  Activation::tanh, Activation::sigmoid}) {
      for (const auto& [rows, in, out] : {std::tuple{0, 3, 2},
                                          {3, 0, 5},
                                          {3, 2, 0},
                                          {1, 1, 1},
                                          {5, 2, 3},
                                          {7, 9, 17},
                                          {33, 31, 8},
                                          {400, 70, 90},
                                          {48, 150, 300}}) {
        for (const auto& [bias, p] :
             {std::pair{false, 0.0}, {true, 0.0}, {false, 0.9}, {true, 0.3}}) {
          const DropoutMask mask{p, {.seed = 0x123456789ABCDEF0u, .site = 3}};
          Guarded<T> x(normals(rows * in, 1)), weight(normals(out * in, 2, 0.2));
          Guarded<SumOf<T>> b(normals(out, 3)), pre(rows * out), y(rows * out), only(rows * out);
          std::vector<double> z(rows * out), expected(rows * out);
          for (std::int64_t i = 0; i < rows * out; ++i) {
            const std::int64_t r = i / out, o = i % out;
            z[i] = bias ? b[o] : 0.0;
            for (std::int64_t k = 0; k < in; ++k)
              z[i] += exact(x[r * in + k]) * exact(weight[o * in + k]);
            const bool kept = mask.stream.uniform(i) >= mask.p;
            expected[i] = kept ? activated(activation, z[i]) / (1 - mask.p) : 0.0;
          }
          LinearForward<T> forward{x.data(),
                                   weight.data(),
                                   bias ? b.data() : nullptr,
                                   activation,
                                   pre.data(),
                                   y.data(),
                                   rows,
                                   in,
                                   out,
                                   mask};
          run(test_device(), forward);
          const auto where = fmt::format("activation {} rows {} in {} out {} bias {} p {}",
                                         static_cast<int>(activation), rows, in, out, bias, p);
          expect_close(y, expected, (5 + in) / (1 - mask.p), 2, where);
          expect_close(pre, z, 5 + in, 2, where);
          forward.pre_activation = nullptr;  // another path on a device
          forward.y = only.data();
          run(test_device(), forward);
          expect_close(only, expected, (5 + in) / (1 - mask.p), 2,
                       where + " without pre_activation");
        }
      }
    }
  });
}

TYPED_TEST(LinearTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<T>([] {
    const std::int64_t rows = 480, in = 150, out = 256;
    Guarded<T> x(normals(rows * in, 1)), weight(normals(out * in, 2, 0.1));
    Guarded<SumOf<T>> b(normals(out, 3)), y(rows * out);
    run(test_device(), LinearForward<T>{x.data(),
                                        weight.data(),
                                        b.data(),
                                        Activation::gelu,
                                        nullptr,
                                        y.data(),
                                        rows,
                                        in,
                                        out,
                                        {0.3, {.seed = 6}}});
    return y.bits();
  });
}

TEST(LinearTest, AnyArrayMayBeMisaligned) {
  const std::int64_t rows = 7, in = 5, out = 36;
  for (const auto activation : {Activation::none, Activation::relu, Activation::gelu}) {
    expect_same_for_any_alignment(
        {rows * in, out * in, out, rows * out, rows * out}, [&](const std::vector<float*>& p) {
          run(test_device(),
              LinearForward<float>{p[0], p[1], p[2], activation, p[3], p[4], rows, in, out});
          run(test_device(),
              LinearForward<float>{p[0], p[1], p[2], activation, nullptr, p[4], rows, in, out});
        });
    expect_same_for_any_alignment(
        {rows * in, out * in, out, rows * out, rows * out}, [&](const std::vector<float*>& p) {
          run(test_device(),
              LinearForward<float>{
                  p[0], p[1], p[2], activation, p[3], p[4], rows, in, out, {0.3, {.seed = 6}}});
        });
  }
}

TEST(LinearTest, Bf16FactorsMayBeMisaligned) {
  const std::int64_t rows = 7, in = 5, out = 36;
  for_each_variant<BFloat16>([&] {
    Guarded<BFloat16> x(normals(rows * in + 1, 1)), weight(normals(out * in + 1, 2));
    Guarded<float> y(rows * out);
    run(test_device(), LinearForward<BFloat16>{x.data() + 1, weight.data() + 1, nullptr,
                                               Activation::relu, nullptr, y.data(), rows, in, out});
    std::vector<double> expected(rows * out);
    for (std::int64_t i = 0; i < rows * out; ++i) {
      for (std::int64_t k = 0; k < in; ++k)
        expected[i] += exact(x[1 + i / out * in + k]) * exact(weight[1 + i % out * in + k]);
      expected[i] = std::max(expected[i], 0.0);
    }
    expect_close(y, expected, 5 + in, 2, "one element off");
  });
}

}  // namespace
}  // namespace cmir::kernels
