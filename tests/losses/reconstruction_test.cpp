#include "losses/reconstruction.h"

#include "tests/losses/loss_test.h"

namespace cmir::losses {
namespace {

using namespace testing;

template <class T>
class ReconstructionTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ReconstructionTest, Scalars);

Evaluated naive_reconstruction(const Values& x, const Values& x_hat, double scale) {
  Evaluated out{0, {Values(x.size()), Values(x.size())}};
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double difference = x[i] - x_hat[i];
    out.value += scale * difference * difference;
    out.gradients[0][i] = 2 * scale * difference;
    out.gradients[1][i] = -2 * scale * difference;
  }
  return out;
}

TYPED_TEST(ReconstructionTest, AgreesWithTheFormula) {
  using T = TypeParam;
  for_each_isa([] {
    for (const auto& [n, d] : {std::pair{1, 1}, {7, 13}, {48, 150}, {101, 97}}) {
      for (const double magnitude : {1.0, 1e15, 1e-15}) {
        for (const bool mean : {true, false}) {
          const Tensor x = tensor<T>(normals(n * d, 1, magnitude), {n, d});
          const Tensor x_hat = tensor<T>(normals(n * d, 2, magnitude), {n, d});
          const double scale = 1.0 / (n * (mean ? d : 1.0));
          expect_agrees<T>(
              evaluate(
                  {x, x_hat},
                  [&](auto v) { return reconstruction(v[0], v[1], {.mean_over_features = mean}); }),
              naive_reconstruction(x.to_vector(), x_hat.to_vector(), scale), 16,
              fmt::format("[{}, {}]", n, d));
        }
      }
    }
  });
}

TYPED_TEST(ReconstructionTest, StopGradientLeavesTheTargetWithoutOne) {
  using T = TypeParam;
  const Tensor x = tensor<T>(normals(15, 1), {3, 5}), x_hat = tensor<T>(normals(15, 2), {3, 5});
  const auto flowing = evaluate({x, x_hat}, [](auto v) { return reconstruction(v[0], v[1]); });
  const auto stopped = evaluate(
      {x, x_hat}, [](auto v) { return reconstruction(v[0], v[1], {.stop_gradient = true}); });
  EXPECT_EQ(stopped.value, flowing.value);
  EXPECT_TRUE(stopped.gradients[0].empty());
  EXPECT_EQ(stopped.gradients[1], flowing.gradients[1]);
}

TYPED_TEST(ReconstructionTest, NaNGivesNaN) {
  Values bad = normals(15, 1);
  bad[14] = kNaN;
  const Variable x(tensor<TypeParam>(bad, {3, 5})),
      x_hat(tensor<TypeParam>(normals(15, 2), {3, 5}));
  EXPECT_TRUE(std::isnan(reconstruction(x, x_hat).value().item()));
}

TYPED_TEST(ReconstructionTest, SameBitsForAnyThreadCount) {
  const Tensor x = tensor<TypeParam>(normals(301 * 97, 1), {301, 97});
  const Tensor x_hat = tensor<TypeParam>(normals(301 * 97, 2), {301, 97});
  expect_same_bits_for_any_thread_count([&] {
    return flatten(evaluate({x, x_hat}, [](auto v) { return reconstruction(v[0], v[1]); }));
  });
}

TEST(ReconstructionErrors, NameBothShapes) {
  const Variable x(Tensor::zeros({3, 4})), y(Tensor::zeros({4, 3})), none(Tensor::zeros({0, 4}));
  expect_usage_error([&] { reconstruction(x, y); },
                     "x f32[3, 4] on cpu and x_hat f32[4, 3] on cpu");
  expect_usage_error([&] { reconstruction(none, none); }, "not empty");
}

}  // namespace
}  // namespace cmir::losses
