#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/arithmetic.h"
#include "autograd/elementwise.h"
#include "autograd/gradcheck.h"
#include "autograd/mean_pool.h"
#include "core/error.h"
#include "tests/kernels/cpu_on_simt.h"
#include "tests/message_of.h"

namespace cmir {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const Device kSimt{DeviceType::simt};

/// An op that reads or writes its tensors on the host, or makes one on the wrong device, fails.
TEST(OpDevices, EveryOpTouchesDeviceMemoryThroughKernelsOnly) {
  const kernels::testing::AllCpuKernelsOnSimt borrowed;
  for (const OpInfo& op : registered_ops()) {
    for (const GradientCase& c : op.gradient_cases()) {
      GradientReport report;
      EXPECT_EQ(message_of([&] { report = check_gradient(c, kSimt); }), "no error")
          << op.name << ": " << c.name;
      EXPECT_TRUE(report.passed) << op.name << ": " << c.name << ": " << report.where;
    }
  }
}

TEST(OpDevices, ResultsAndGradientsAreOnTheInputsDevice) {
  const kernels::testing::AllCpuKernelsOnSimt borrowed;
  const Variable x(random_normal({5, 3}, 1).to(kSimt), true);
  const Variable pooled = ops::mean_pool(x, Tensor::from<std::int64_t>({0, 2, 5}, {3}));
  EXPECT_EQ(pooled.device(), kSimt);
  backward(pooled, {.seed = random_normal({2, 3}, 2).to(kSimt)});
  EXPECT_EQ(x.gradient().device(), kSimt);
}

TEST(OpDevices, InputsOnTwoDevicesAreRefusedByName) {
  const Variable a(random_normal({2}, 1)), b(random_normal({2}, 2).to(kSimt));
  EXPECT_THAT(
      message_of([&] { ops::add(a, b); }),
      AllOf(HasSubstr("f64[2] on cpu"), HasSubstr("f64[2] on simt"), HasSubstr("on two devices")));
}

TEST(OpDevices, OffsetsStayOnTheCpu) {
  const Variable x(random_normal({5, 3}, 1).to(kSimt));
  const Tensor offsets = Tensor::from<std::int64_t>({0, 2, 5}, {3}, kSimt);
  EXPECT_THAT(message_of([&] { ops::mean_pool(x, offsets); }),
              AllOf(HasSubstr("mean_pool"), HasSubstr("copy it to the cpu first")));
}

}  // namespace
}  // namespace cmir
