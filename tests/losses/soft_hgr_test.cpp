#include "losses/soft_hgr.h"

#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class SoftHgrTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SoftHgrTest, Scalars);

Values centred(const Values& x, std::size_t d) {
  const std::size_t n = x.size() / d;
  Values out(x);
  for (std::size_t c = 0; c < d; ++c) {
    double mean = 0;
    for (std::size_t i = 0; i < n; ++i) mean += x[i * d + c] / static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) out[i * d + c] -= mean;
  }
  return out;
}

/// By the N x N forms: tr(cov f cov g) = ||A B^T||_F^2 / n^2, whose derivative by A is 2 A B^T B.
Evaluated naive_soft_hgr(const Values& f, const Values& g, std::size_t d) {
  const Values a = centred(f, d), b = centred(g, d);
  const std::size_t count = a.size() / d;
  const auto n = static_cast<double>(count - 1);
  Evaluated out{0, {Values(a.size()), Values(a.size())}};
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t j = 0; j < count; ++j) {
      double dot = 0;
      for (std::size_t c = 0; c < d; ++c) dot += a[i * d + c] * b[j * d + c];
      out.value += (i == j ? dot / n : 0) - dot * dot / (2 * n * n);
      for (std::size_t c = 0; c < d; ++c) {
        const double slope = (i == j ? 1 / n : 0) - dot / (n * n);
        out.gradients[0][i * d + c] += slope * b[j * d + c];
        out.gradients[1][j * d + c] += slope * a[i * d + c];
      }
    }
  }
  for (Values& gradient : out.gradients) gradient = centred(gradient, d);  // through the means
  return out;
}

TYPED_TEST(SoftHgrTest, AgreesWithTheMatricesWrittenOut) {
  using T = TypeParam;
  for_each_isa([] {
    for (const auto& [n, d] : {std::pair{2, 1}, {2, 5}, {7, 3}, {33, 17}, {150, 33}}) {
      Values first = normals(n * d, 1), second = normals(n * d, 2);
      for (int i = 0; i < n * d; ++i) {
        first[i] = 3 + 0.5 * first[i];
        second[i] = 0.3 * second[i] + 0.4 * first[i];
      }
      const Tensor f = tensor<T>(first, {n, d}), g = tensor<T>(second, {n, d});
      // 84 eps is 1e-5 in f32.
      expect_agrees<T>(evaluate({f, g}, [](auto x) { return soft_hgr(x[0], x[1]); }),
                       naive_soft_hgr(f.to_vector(), g.to_vector(), d), 80,
                       fmt::format("[{}, {}]", n, d), 1e-1);
    }
  });
}

/// For f = g with covariance C the value is tr(C) - tr(C^2) / 2, largest (d / 2) where C = 1.
TEST(SoftHgr, IsHalfTheDimensionForTheSameWhiteFeatures) {
  const Tensor white = Tensor::from({1.0, 1.0, 1.0, -1.0, -1.0, 1.0, -1.0, -1.0}, {4, 2});
  Tensor scaled = white.clone();
  for (double& x : scaled.mutable_span<double>()) x *= std::sqrt(0.75);  // divided by 3, not 4
  EXPECT_NEAR(soft_hgr(Variable(scaled), Variable(scaled)).value().item(), 1, 1e-12);
  EXPECT_LT(soft_hgr(Variable(white), Variable(white)).value().item(), 1);
}

TYPED_TEST(SoftHgrTest, IdenticalRowsLargeValuesAndNaN) {
  using T = TypeParam;
  const Tensor same = tensor<T>(Values(6, 0.5), {3, 2}), g = tensor<T>(normals(6, 1), {3, 2});
  EXPECT_EQ(soft_hgr(Variable(same), Variable(g)).value().item(), 0);
  const Tensor large = tensor<T>({1e4, -1e4, -1e4, 1e4}, {2, 2});
  const auto big = evaluate({large, large}, [](auto x) { return soft_hgr(x[0], x[1]); });
  const auto expected = naive_soft_hgr(large.to_vector(), large.to_vector(), 2);
  expect_agrees<T>(big, expected, 80, "1e4");
  const Tensor one = tensor<T>({3, -4}, {1, 2});
  EXPECT_EQ(flatten(evaluate({one, one}, [](auto x) { return soft_hgr(x[0], x[1]); })), Values(5));
  const Tensor bad = tensor<T>({1, kNaN, 0, 1, 2, 3}, {3, 2});
  EXPECT_TRUE(std::isnan(soft_hgr(Variable(bad), Variable(g)).value().item()));
}

TYPED_TEST(SoftHgrTest, SameBitsForAnyThreadCount) {
  const Tensor f = tensor<TypeParam>(normals(301 * 65, 1), {301, 65}),
               g = tensor<TypeParam>(normals(301 * 65, 2), {301, 65});
  expect_same_bits_for_any_thread_count([&] {
    return flatten(evaluate({f, g}, [](auto x) { return soft_hgr(x[0], x[1]); }));
  });
}

TEST(SoftHgrErrors, NameTheShapes) {
  const Variable two(Tensor::zeros({2, 2})), three(Tensor::zeros({2, 3})),
      none(Tensor::zeros({0, 3}));
  expect_usage_error([&] { soft_hgr(none, none); }, "not empty");
  expect_usage_error([&] { soft_hgr(two, three); }, "f32[2, 3]");
}

}  // namespace
}  // namespace cmir::losses
