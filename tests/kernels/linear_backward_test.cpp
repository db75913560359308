#include "kernels/matrix/linear_backward.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

/// A relu layer, [rows, in] to [rows, hidden], and what comes back to the layer behind it.
template <class T>
struct Problem {
  std::int64_t rows, in, hidden, out;
  Guarded<T> x, weight, dy, next_weight;
  Guarded<SumOf<T>> bias, y, dz, dbias;
  Guarded<double> workspace;
  Shared<std::uint8_t> mask;

  Problem(std::int64_t r, std::int64_t i, std::int64_t h, std::int64_t o, double scale = 1)
      : rows(r),
        in(i),
        hidden(h),
        out(o),
        x(normals(r * i, 1)),
        weight(normals(h * i, 2)),
        dy(normals(r * o, 3, scale)),
        next_weight(normals(o * h, 4)),
        bias(normals(h, 5)),
        y(r * h),
        dz(r * h),
        dbias(h),
        workspace(ActivationBackward<SumOf<T>>::workspace_size(r, h)),
        mask(relu_mask_bytes(r, h)) {}

  LinearReluGradient<T> run_both(bool with_mask, bool with_bias = true) {
    const LinearForward<T> relu{.x = x.data(),
                                .weight = weight.data(),
                                .bias = bias.data(),
                                .activation = Activation::relu,
                                .pre_activation = nullptr,
                                .y = y.data(),
                                .rows = rows,
                                .in = in,
                                .out = hidden,
                                .relu_mask = with_mask ? mask.data() : nullptr};
    run(test_device(), relu);
    const LinearReluGradient<T> gradient{relu,
                                         dy.data(),
                                         next_weight.data(),
                                         dz.data(),
                                         with_bias ? dbias.data() : nullptr,
                                         workspace.data(),
                                         out};
    run(test_device(), gradient);
    return gradient;
  }
};

template <class T>
class LinearReluGradientTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, BFloat16>;
TYPED_TEST_SUITE(LinearReluGradientTest, Scalars);

TYPED_TEST(LinearReluGradientTest, MatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [rows, in, hidden, out] : {std::tuple{0, 3, 2, 4},
                                                {3, 2, 0, 4},
                                                {3, 2, 5, 0},
                                                {1, 1, 1, 1},
                                                {5, 2, 3, 2},
                                                {7, 9, 17, 4},
                                                {65, 3, 131, 8},
                                                {400, 7, 90, 33}}) {
      for (const bool with_mask : {false, true}) {
        for (const double scale : {1.0, 1e-30, 1e30}) {
          Problem<T> p(rows, in, hidden, out, scale);
          p.run_both(with_mask);
          std::vector<double> dz(rows * hidden), dbias(hidden);
          for (std::int64_t i = 0; i < rows * hidden; ++i) {
            const std::int64_t r = i / hidden, h = i % hidden;
            for (std::int64_t o = 0; o < out && p.y[i] > 0; ++o) {
              dz[i] += exact(p.dy[r * out + o]) * exact(p.next_weight[o * hidden + h]);
            }
            dbias[h] += dz[i];
          }
          const auto where = fmt::format("rows {} in {} hidden {} out {} mask {} scale {}", rows,
                                         in, hidden, out, with_mask, scale);
          expect_close(p.dz, dz, scale * (2 + out), 2, where);
          expect_close(p.dbias, dbias, scale * (2 + out) * (2 + rows), 1, where);
        }
      }
    }
  });
}

TYPED_TEST(LinearReluGradientTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<T>([] {
    Problem<T> p(480, 15, 130, 25);
    p.run_both(true);
    return joined(p.dz, p.dbias);
  });
}

TEST(LinearReluGradientTest, AnyArrayMayBeMisaligned) {
  const std::int64_t rows = 7, in = 5, hidden = 36, out = 9;
  for (const bool with_mask : {false, true}) {
    Shared<std::uint8_t> mask(relu_mask_bytes(rows, hidden));
    Guarded<double> workspace(ActivationBackward<float>::workspace_size(rows, hidden));
    expect_same_for_any_alignment(
        {rows * in, hidden * in, hidden, rows * hidden, rows * out, out * hidden, rows * hidden,
         hidden},
        [&](const std::vector<float*>& p) {
          const LinearForward<float> relu{.x = p[0],
                                          .weight = p[1],
                                          .bias = p[2],
                                          .activation = Activation::relu,
                                          .pre_activation = nullptr,
                                          .y = p[3],
                                          .rows = rows,
                                          .in = in,
                                          .out = hidden,
                                          .relu_mask = with_mask ? mask.data() : nullptr};
          run(test_device(), relu);
          run(test_device(),
              LinearReluGradient<float>{relu, p[4], p[5], p[6], p[7], workspace.data(), out});
        });
  }
}

template <class T>
class LinearWeightGradientTest : public ::testing::Test {};
using Floats = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LinearWeightGradientTest, Floats);

TYPED_TEST(LinearWeightGradientTest, MatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [rows, in, out] : {std::tuple{0, 3, 2},
                                        {3, 0, 5},
                                        {3, 2, 0},
                                        {1, 1, 1},
                                        {5, 2, 3},
                                        {65, 9, 17},
                                        {400, 70, 90}}) {
      for (const double scale : {1.0, 1e-30, 1e30}) {
        Guarded<T> dy(normals(rows * out, 1, scale)), x(normals(rows * in, 2)), dweight(out * in),
            dbias(out);
        Guarded<double> workspace(ActivationBackward<T>::workspace_size(rows, out));
        run(test_device(), LinearWeightGradient<T>{dy.data(), x.data(), dweight.data(),
                                                   dbias.data(), workspace.data(), rows, in, out});
        std::vector<double> expected(out * in), sums(out);
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t o = 0; o < out; ++o) {
            sums[o] += exact(dy[r * out + o]);
            for (std::int64_t i = 0; i < in; ++i)
              expected[o * in + i] += exact(dy[r * out + o]) * exact(x[r * in + i]);
          }
        }
        const auto where = fmt::format("rows {} in {} out {} scale {}", rows, in, out, scale);
        expect_close(dweight, expected, scale * (2 + rows), 2, where);
        expect_close(dbias, sums, scale * (2 + rows), 2, where);
      }
    }
  });
}

TYPED_TEST(LinearWeightGradientTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<T>([] {
    const std::int64_t rows = 480, in = 15, out = 130;
    Guarded<T> dy(normals(rows * out, 1)), x(normals(rows * in, 2)), dweight(out * in), dbias(out);
    Guarded<double> workspace(ActivationBackward<T>::workspace_size(rows, out));
    run(test_device(), LinearWeightGradient<T>{dy.data(), x.data(), dweight.data(), dbias.data(),
                                               workspace.data(), rows, in, out});
    return joined(dweight, dbias);
  });
}

TEST(LinearWeightGradientTest, AnyArrayMayBeMisaligned) {
  const std::int64_t rows = 7, in = 5, out = 36;
  Guarded<double> workspace(ActivationBackward<float>::workspace_size(rows, out));
  expect_same_for_any_alignment(
      {rows * out, rows * in, out * in, out}, [&](const std::vector<float*>& p) {
        run(test_device(),
            LinearWeightGradient<float>{p[0], p[1], p[2], p[3], workspace.data(), rows, in, out});
      });
}

}  // namespace
}  // namespace cmir::kernels
