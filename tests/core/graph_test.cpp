#include "core/graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/readback.h"
#include "core/tensor.h"
#include "tests/message_of.h"

namespace cmir {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

/// simt, and the GPU where there is one.
class GraphTest : public ::testing::TestWithParam<DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceType::cuda && cuda::device_count() == 0)
      GTEST_SKIP() << cuda::unavailable_reason();
  }
  const Device device_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Devices, GraphTest, ::testing::Values(DeviceType::simt, DeviceType::cuda),
                         [](const auto& test) {
                           return Device{test.param}.to_string().substr(0, 4);
                         });

TEST_P(GraphTest, RecordsAndDoesNothingThenRepeats) {
  Tensor from = Tensor::full({100}, 1, DType::f32, device_);
  Tensor to = Tensor::zeros({100}, DType::f32, device_);
  Graph graph(device_);
  graph.capture([&] {
    const Tensor between = from.clone();
    to.copy_from(between);
  });
  EXPECT_THAT(to.to_vector(), Each(0.0));
  graph.replay();
  EXPECT_THAT(to.to_vector(), Each(1.0));
  from.fill(7);
  graph.replay();
  EXPECT_THAT(to.to_vector(), Each(7.0));
}

TEST_P(GraphTest, ItsMemoryIsNobodyElses) {
  Tensor result;
  Graph graph(device_);
  graph.capture([&] {
    { const Tensor freed = Tensor::full({1000}, 3, DType::f32, device_); }
    result = Tensor::zeros({1000}, DType::f32, device_);
  });
  const void* address = result.raw();
  result = Tensor();
  for (int i = 0; i < 4; ++i) {
    const Tensor other = Tensor::full({1000}, 5, DType::f32, device_);
    EXPECT_NE(other.raw(), address);
    graph.replay();
    EXPECT_THAT(other.to_vector(), Each(5.0));
  }
}

TEST_P(GraphTest, RefusesHostCopiesAndIsUsableAfterwards) {
  const Tensor here = Tensor::full({3}, 1);
  const Tensor there = Tensor::full({3}, 2, DType::f32, device_);
  Graph graph(device_);
  for (const auto& work : std::vector<std::function<void()>>{
           [&] { (void)here.to(device_); }, [&] { (void)there.to(Device{}); },
           [&] { (void)here.on(device_); }, [&] { (void)there.item(); }}) {
    EXPECT_NE(message_of([&] { graph.capture(work); }), "no error");
  }
  EXPECT_THAT(message_of([&] { graph.replay(); }), HasSubstr("nothing to replay"));
  Tensor filled = Tensor::zeros({3}, DType::f32, device_);
  graph.capture([&] { filled.fill(4); });
  EXPECT_THAT(message_of([&] { graph.capture([] {}); }), HasSubstr("already"));
  graph.replay();
  EXPECT_THAT(filled.to_vector(), Each(4.0));
}

TEST_P(GraphTest, AReadbackHasTheValuesOfItsTime) {
  Tensor x = Tensor::full({5}, 1, DType::f32, device_);
  const Readback first(x);
  x.fill(2);
  const Readback second(x);
  EXPECT_THAT(first.wait().to_vector(), Each(1.0));
  EXPECT_THAT(second.wait().to_vector(), Each(2.0));
  EXPECT_TRUE(second.wait().device().is_cpu());
}

TEST(Graph, NeedsADevice) {
  EXPECT_THAT(message_of([] { Graph graph(Device{}); }), HasSubstr("the cpu is not recorded"));
}

}  // namespace
}  // namespace cmir
