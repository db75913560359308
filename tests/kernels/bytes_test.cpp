// The bytes that penalties' kernels count: one read of each input for the value, and no more for
// the gradient than its statistics demand.
#include <gtest/gtest.h>

#include "kernels/invariance/coral.h"
#include "kernels/invariance/environment_penalty.h"
#include "kernels/invariance/gaussian_mmd.h"
#include "kernels/invariance/hsic.h"
#include "kernels/invariance/loss_slope.h"

namespace cmir::kernels {
namespace {

constexpr std::int64_t kRows = 1000, kWidth = 10, kEnvironments = 3;
constexpr double kRead = 4 * kRows * kWidth;  // of x once, in f32

/// The kernel's bytes without and with derivatives.
template <class Args>
void expect_bytes(Args args, double value_only, double with_derivatives) {
  float gradient = 0;
  EXPECT_EQ(args.bytes(), value_only) << Args::name;
  args.derivatives = &gradient;
  EXPECT_EQ(args.bytes(), with_derivatives) << Args::name;
}

TEST(KernelBytes, PenaltiesReadTheirInputOnceForTheValue) {
  const EnvironmentRows rows{nullptr, nullptr, kEnvironments, kRows};
  Coral<float> coral{};
  coral.rows = rows;
  coral.width = kWidth;
  const double matrices = 4 * kEnvironments * kWidth * kWidth;
  expect_bytes(coral, kRead + 2 * matrices, 3 * kRead + 4 * matrices);
  GaussianMmd<float> mmd{};
  mmd.rows = rows;
  mmd.width = kWidth;
  expect_bytes(mmd, kRead, 2 * kRead);
  EnvironmentPenalty<float> penalty{};
  penalty.rows = rows;
  expect_bytes(penalty, 4 * kRows, 2 * 4 * kRows);
  PointwiseSlope<float> slope{};
  slope.rows = kRows;
  slope.width = kWidth;
  expect_bytes(slope, 2 * kRead + 4 * kRows, 3 * kRead + 4 * kRows);
  CrossEntropySlope<float> of_classes{};
  of_classes.rows = kRows;
  of_classes.width = kWidth;
  expect_bytes(of_classes, kRead + 2 * 4 * kRows, 2 * kRead + 2 * 4 * kRows);
}

TEST(KernelBytes, HsicReadsItsInputsTwice) {
  float gradient = 0;
  Hsic<float> hsic{};
  hsic.rows = kRows;
  hsic.x_width = kWidth;
  hsic.y_width = 2 * kWidth;
  EXPECT_EQ(hsic.bytes(), 2 * 3 * kRead);
  hsic.dy = &gradient;
  EXPECT_EQ(hsic.bytes(), (2 * 3 + 2) * kRead);
}

/// The CPU's library wants centred rows; a GPU keeps none.
TEST(KernelBytes, CoralKeepsNoRowsOnAGpu) {
  EXPECT_EQ(Coral<float>::products_size({DeviceType::cuda}, kRows, kEnvironments, kWidth),
            kEnvironments * kWidth * kWidth);
}

}  // namespace
}  // namespace cmir::kernels
