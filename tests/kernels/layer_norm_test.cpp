#include "kernels/norm/layer_norm.h"

#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class LayerNormTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(LayerNormTest, Scalars);

/// What is normalised: x; x + residual, which is kept, and whose gradient has another part; x +
/// residual without these.
enum class Form { plain, sum_kept, sum_not_kept };

template <class T>
struct Run {
  Guarded<T> x, residual, s, sum, gamma, beta, dy, arrived, y, mean, rstd, dx, dgamma, dbeta,
      workspace;

  Run(const std::vector<double>& input, std::int64_t rows, std::int64_t width,
      Form form = Form::plain)
      : x(input),
        residual(normals(rows * width, 5)),
        s(rows * width),
        sum(rows * width),
        gamma(normals(width, 2)),
        beta(normals(width, 3)),
        dy(normals(rows * width, 4)),
        arrived(normals(rows * width, 6)),
        y(rows * width),
        mean(rows),
        rstd(rows),
        dx(rows * width),
        dgamma(width),
        dbeta(width),
        workspace(layer_norm_backward_workspace(rows, width)) {
    const bool plain = form == Form::plain, kept = form == Form::sum_kept;
    for (std::int64_t i = 0; i < rows * width; ++i) s[i] = plain ? x[i] : x[i] + residual[i];
    run(test_device(),
        LayerNormForward<T>{x.data(), gamma.data(), beta.data(), T(1e-5), y.data(), mean.data(),
                            rstd.data(), rows, width, plain ? nullptr : residual.data(),
                            kept ? sum.data() : nullptr});
    run(test_device(),
        LayerNormBackward<T>{s.data(), gamma.data(), mean.data(), rstd.data(), dy.data(), dx.data(),
                             dgamma.data(), dbeta.data(), rows, width, workspace.data(),
                             kept ? arrived.data() : nullptr});
    if (kept) {
      EXPECT_EQ(sum.bits(), s.bits());
    }
  }
};

template <class T>
void expect_the_formula(Form form) {
  auto widths = kAwkwardSizes;  // and around a CUDA kernel's tiles of columns, and a warp's row
  widths.insert(widths.end(), {128, 132, 256, 260, 1024, 1025, 1028});
  for_each_variant<T>([&] {
    for (const std::int64_t rows : {0, 1, 3, 33, 70}) {
      for (const std::int64_t width : widths) {
        Run<T> r(normals(rows * width, 1), rows, width, form);
        std::vector<double> y(rows * width), dx(rows * width), dgamma(width), dbeta(width);
        double largest = 1;  // rstd: a row of nearly equal features has a large gradient
        for (std::int64_t i = 0; i < rows; ++i) {
          T* x = r.s.data() + i * width;
          T* dy = r.dy.data() + i * width;
          double mean = 0, variance = 0, g = 0, gn = 0;
          for (std::int64_t j = 0; j < width; ++j) mean += x[j] / static_cast<double>(width);
          for (std::int64_t j = 0; j < width; ++j)
            variance += (x[j] - mean) * (x[j] - mean) / width;
          const double rstd = 1 / std::sqrt(variance + static_cast<double>(T(1e-5)));
          largest = std::max(largest, rstd);
          for (std::int64_t j = 0; j < width; ++j) {
            const double n = (x[j] - mean) * rstd;
            y[i * width + j] = n * r.gamma[j] + r.beta[j];
            g += static_cast<double>(r.gamma[j]) * dy[j] / width;
            gn += static_cast<double>(r.gamma[j]) * dy[j] * n / width;
            dgamma[j] += dy[j] * n;
            dbeta[j] += dy[j];
          }
          for (std::int64_t j = 0; j < width; ++j) {
            dx[i * width + j] =
                rstd * (static_cast<double>(r.gamma[j]) * dy[j] - g - (x[j] - mean) * rstd * gn);
            if (form == Form::sum_kept) dx[i * width + j] += r.arrived[i * width + j];
          }
        }
        const std::string at = fmt::format("rows {} width {}", rows, width);
        expect_close(r.y, y, 4 * largest, 20, at + " y");
        expect_close(r.dx, dx, 4 * largest * largest, 20, at + " dx");
        expect_close(r.dgamma, dgamma, 4 * largest * std::sqrt(rows + 1.0), 20, at + " dgamma");
        expect_close(r.dbeta, dbeta, 4 * std::sqrt(rows + 1.0), 20, at + " dbeta");
      }
    }
  });
}
TYPED_TEST(LayerNormTest, MatchesTheFormula) { expect_the_formula<TypeParam>(Form::plain); }
TYPED_TEST(LayerNormTest, OfASumMatchesTheFormula) {
  expect_the_formula<TypeParam>(Form::sum_kept);
}
TYPED_TEST(LayerNormTest, OfASumThatIsNotKeptMatchesTheFormula) {
  expect_the_formula<TypeParam>(Form::sum_not_kept);
}

TYPED_TEST(LayerNormTest, TheGradientMayReplaceWhatArrived) {
  using T = TypeParam;
  for_each_variant<T>([] {
    const std::int64_t rows = 35, width = 33;
    Run<T> r(normals(rows * width, 1), rows, width, Form::sum_kept);
    run(test_device(),
        LayerNormBackward<T>{r.s.data(), r.gamma.data(), r.mean.data(), r.rstd.data(), r.dy.data(),
                             r.arrived.data(), r.dgamma.data(), r.dbeta.data(), rows, width,
                             r.workspace.data(), r.arrived.data()});
    EXPECT_EQ(r.arrived.bits(), r.dx.bits());
  });
}

TYPED_TEST(LayerNormTest, OfASumThatCancelsOrOverflows) {
  using T = TypeParam;
  const std::int64_t width = 47;
  const T huge = std::numeric_limits<T>::max();
  for_each_variant<T>([&] {
    Guarded<T> x(3 * width), residual(3 * width), y(3 * width), gamma(normals(width, 2)),
        beta(normals(width, 3)), mean(3), rstd(3);
    const auto noise = normals(width, 9);
    for (std::int64_t j = 0; j < width; ++j) {
      x[j] = static_cast<T>(1e15 * noise[j]);  // row 0: to zeros
      residual[j] = -x[j];
      x[width + j] = static_cast<T>(noise[j]);  // row 1: to infinity
      residual[width + j] = j == 3 ? huge : T{0};
      if (j == 3) x[width + j] = huge;
      x[2 * width + j] = residual[2 * width + j] = static_cast<T>(noise[j]);  // row 2: plain
    }
    run(test_device(), LayerNormForward<T>{x.data(), gamma.data(), beta.data(), T(1e-5), y.data(),
                                           mean.data(), rstd.data(), 3, width, residual.data()});
    for (std::int64_t j = 0; j < width; ++j) {
      EXPECT_EQ(y[j], beta[j]) << j;
      EXPECT_TRUE(std::isnan(y[width + j])) << j;
      EXPECT_TRUE(std::isfinite(y[2 * width + j])) << j;
    }
  });
}

TYPED_TEST(LayerNormTest, ALargeMeanKeepsTheVariance) {
  using T = TypeParam;
  // The features 2^20 and 2^20 + 2 are exact; sum(x^2) - mean^2 in f32 would lose the variance 1
  // altogether.
  const double base = 1 << 20;
  std::vector<double> x(150);
  for (std::size_t j = 0; j < x.size(); ++j) x[j] = base + (j % 2 == 0 ? 0 : 2);
  for_each_variant<T>([&] {
    Run<T> r(x, 1, 150);
    EXPECT_NEAR(r.rstd[0], 1 / std::sqrt(1 + 1e-5), 1e-6);
    EXPECT_EQ(r.mean[0], T(base + 1));
  });
}

TYPED_TEST(LayerNormTest, ConstantRowsGiveBetaAndHugeAndTinyRowsStayFinite) {
  using T = TypeParam;
  const std::int64_t width = 47;
  std::vector<double> x(4 * width);
  const auto noise = normals(width, 9);
  for (std::int64_t j = 0; j < width; ++j) {
    x[j] = 0;
    x[width + j] = 1e15 * noise[j];
    x[2 * width + j] = 1e-15 * noise[j];
    x[3 * width + j] = j == 5 ? std::nan("") : noise[j];
  }
  for_each_variant<T>([&] {
    Run<T> r(x, 4, width);
    for (std::int64_t j = 0; j < width; ++j) {
      EXPECT_EQ(r.y[j], r.beta[j]);
      EXPECT_TRUE(std::isfinite(r.y[width + j]) && std::isfinite(r.y[2 * width + j]));
      EXPECT_TRUE(std::isnan(r.y[3 * width + j]));
    }
  });
}

TYPED_TEST(LayerNormTest, ARowGivesTheSameBitsAloneAndInABatch) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    const auto x = normals(67 * 30, 1);
    Run<T> batch(x, 67, 30);
    for (const std::int64_t row : {0, 31, 66}) {
      Run<T> alone({x.begin() + row * 30, x.begin() + (row + 1) * 30}, 1, 30);
      EXPECT_EQ(std::memcmp(alone.y.data(), batch.y.data() + row * 30, 30 * sizeof(T)), 0) << row;
    }
  });
}

TYPED_TEST(LayerNormTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<TypeParam>([] {
    Run<T> r(normals(301 * 31, 1), 301, 31, Form::sum_kept);
    auto all = r.y.bits();
    for (auto* part : {&r.dx, &r.dgamma, &r.dbeta}) {
      const auto bits = part->bits();
      all.insert(all.end(), bits.begin(), bits.end());
    }
    return all;
  });
}

TEST(LayerNormTest, AnyArrayMayBeMisaligned) {
  for (const auto& [m, n] : {std::pair{40, 132}, {3, 1028}}) {
    const std::int64_t rows = m, width = n, count = rows * width;
    expect_same_for_any_alignment(
        {count, width, width, count, rows, rows}, [&](const std::vector<float*>& p) {
          run(test_device(),
              LayerNormForward<float>{p[0], p[1], p[2], 1e-5F, p[3], p[4], p[5], rows, width});
        });
    expect_same_for_any_alignment(
        {count, width, width, count, rows, rows, count, count}, [&](const std::vector<float*>& p) {
          run(test_device(), LayerNormForward<float>{p[0], p[1], p[2], 1e-5F, p[3], p[4], p[5],
                                                     rows, width, p[6], p[7]});
        });
    expect_same_for_any_alignment({count, width, rows, rows, count, count, width, width,
                                   layer_norm_backward_workspace(rows, width)},
                                  [&](const std::vector<float*>& p) {
                                    run(test_device(),
                                        LayerNormBackward<float>{p[0], p[1], p[2], p[3], p[4], p[5],
                                                                 p[6], p[7], rows, width, p[8]});
                                  });
    expect_same_for_any_alignment(
        {count, width, rows, rows, count, count, width, width,
         layer_norm_backward_workspace(rows, width), count},
        [&](const std::vector<float*>& p) {
          run(test_device(), LayerNormBackward<float>{p[0], p[1], p[2], p[3], p[4], p[5], p[6],
                                                      p[7], rows, width, p[8], p[9]});
        });
  }
}

}  // namespace
}  // namespace cmir::kernels
