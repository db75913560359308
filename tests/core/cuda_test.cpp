#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <numeric>
#include <vector>

#include "core/cuda/runtime.h"
#include "core/error.h"
#include "core/range.h"
#include "core/tensor.h"
#include "core/trace.h"
#include "tests/message_of.h"

namespace cmir {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;

const Device kGpu{DeviceType::cuda};

TEST(Device, NamesAreReadAndWritten) {
  EXPECT_EQ(parse_device("cpu"), Device{});
  EXPECT_EQ(parse_device("cuda"), kGpu);
  EXPECT_EQ(parse_device("cuda:3"), (Device{DeviceType::cuda, 3}));
  EXPECT_EQ(parse_device("simt").type, DeviceType::simt);
  for (const char* name : {"cpu", "cuda:0", "cuda:12", "simt"})
    EXPECT_EQ(parse_device(name).to_string(), name);
  for (const char* name :
       {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1 ", "CPU", "cuda:99999999999"})
    EXPECT_THAT(message_of([&] { parse_device(name); }),
                HasSubstr("is none of cpu, cuda, cuda:N, simt"))
        << name;
}

TEST(Device, TheCpuAndSimtAreAlwaysThere) {
  require_available({});
  require_available({DeviceType::simt});
}

TEST(Range, NamesTheOpUnderWayAndNests) {
  EXPECT_EQ(op_under_way(), "no op");
  {
    const Range outer("outer");
    {
      const Range inner("inner");
      EXPECT_EQ(op_under_way(), "inner");
    }
    EXPECT_EQ(op_under_way(), "outer");
  }
  EXPECT_EQ(op_under_way(), "no op");
}

/// Without a GPU every way to one is an Error with the reason.
TEST(CudaWithoutAGpu, EverythingSaysWhyNot) {
  if (cuda::device_count() > 0) GTEST_SKIP() << "there is a GPU";
  const std::string& reason = cuda::unavailable_reason();
  EXPECT_THAT(reason, AnyOf(HasSubstr("this build has no CUDA"), HasSubstr("driver"),
                            HasSubstr("no device"), HasSubstr("does not start")));
  const auto expect_reason = [&](const std::string& message) {
    EXPECT_THAT(message, AllOf(HasSubstr(reason), HasSubstr("use the device cpu")));
  };
  expect_reason(message_of([] { require_available(kGpu); }));
  expect_reason(message_of([] { Tensor::zeros({3}, DType::f32, kGpu); }));
  expect_reason(message_of([] { (void)Tensor::zeros({3}).to(kGpu); }));
  expect_reason(message_of([] { (void)Tensor::zeros({3}).on(kGpu); }));
  EXPECT_THAT(message_of([] { cuda::properties(0); }), HasSubstr(reason));
  expect_reason(message_of([] { cuda::synchronise(); }));
  expect_reason(message_of([] { cuda::Graph graph; }));
  expect_reason(message_of([] { cuda::pinned_allocator().allocate(64); }));
  expect_reason(message_of([] { cuda::allocate_managed(64); }));
}

// ---- What needs a GPU
// --------------------------------------------------------------------------------------------

class Cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    if (cuda::device_count() == 0) GTEST_SKIP() << cuda::unavailable_reason();
  }
};

TEST_F(Cuda, DeviceHasANameAndMemory) {
  const auto p = cuda::properties(0);
  EXPECT_FALSE(p.name.empty());
  EXPECT_GE(p.major, 5);
  EXPECT_GT(p.multiprocessors, 0);
  EXPECT_GT(p.total_memory, 0U);
  EXPECT_THAT(message_of([] { cuda::use_device(cuda::device_count()); }), HasSubstr("there is no"));
}

TEST_F(Cuda, TensorsGoThereAndBack) {
  std::vector<float> values(3'000'001);
  std::iota(values.begin(), values.end(), 0.0F);
  const Tensor there = Tensor::from(values, {3'000'001}, kGpu);
  EXPECT_EQ(there.device(), kGpu);
  const Tensor back = there.clone().to(Device{});
  EXPECT_TRUE(std::ranges::equal(back.span<float>(), values));
  EXPECT_EQ(there.slice(12345, 12346).item(), 12345);
  EXPECT_EQ(there.slice(5, 8).to(DType::i32).to_vector(), (std::vector<double>{5, 6, 7}));
  EXPECT_THAT(message_of([&] { (void)there.span<float>(); }),
              HasSubstr("copy it to the cpu first"));
  Tensor overlapping = Tensor::from<float>({1, 2, 3}, {3}, kGpu);
  overlapping.slice(1, 3).copy_from(overlapping.slice(0, 2));
  EXPECT_EQ(overlapping.to_vector(), (std::vector<double>{1, 1, 2}));
}

TEST_F(Cuda, FillsEveryDType) {
  for (DType dtype : {DType::f32, DType::f64, DType::bf16, DType::i32, DType::i64, DType::u8}) {
    EXPECT_THAT(Tensor::full({1000}, 3, dtype, kGpu).to_vector(), Each(3.0));
    EXPECT_THAT(Tensor::zeros({1000}, dtype, kGpu).to_vector(), Each(0.0));
  }
}

/// One after another on the GPU's track, within the phase of the step that gave them to it.
TEST_F(Cuda, KernelsOfATracedStepAreTimedThere) {
  Trace trace(1);
  Tensor values = Tensor::zeros({1 << 24}, DType::f32, kGpu);
  for (int number = 1; number <= 2; ++number) {
    const TraceStep step(&trace, number);
    trace_phase("forward");
    for (int i = 0; tracing() && i < 3; ++i) {
      const TracedKernel kernel(kGpu, "fill", {.bytes = 1 << 26, .operations = 0});
      values.fill(i);
    }
  }
  const auto kernels = trace.buffer("GPU").events();
  const auto host = trace.buffer("train").events();
  ASSERT_EQ(kernels.size(), 3U);
  ASSERT_EQ(host.size(), 6U);  // launches, two phases, the step
  std::int64_t before = 0;
  for (const TraceEvent& kernel : kernels) {
    EXPECT_EQ(kernel.kind, TraceKind::kernel);
    EXPECT_GE(kernel.begin, before - 1000);  // the times are floats
    EXPECT_GT(kernel.end, kernel.begin);
    before = kernel.end;
  }
  EXPECT_LE(before, host.back().end + 1'000'000);
}

TEST_F(Cuda, ManyUploadsFromChangingMemoryKeepTheirValues) {
  Tensor host = Tensor::zeros({1 << 20});
  std::vector<Tensor> copies;
  for (int i = 0; i < 40; ++i) {  // more than may be staged at once
    host.fill(i);
    copies.push_back(host.to(kGpu));
  }
  for (int i = 0; i < 40; ++i) EXPECT_THAT(copies[i].slice(777, 780).to_vector(), Each(i)) << i;
}

TEST_F(Cuda, CopiesOnTheCopyStreamOverlapAndArriveInOrder) {
  const Tensor host = Tensor::full({1 << 20}, 7);
  Tensor next;
  {
    const cuda::StreamScope scope(cuda::copy_stream());
    next = host.to(kGpu);
  }
  cuda::compute_stream().wait_for(cuda::copy_stream());
  EXPECT_THAT(next.clone().slice(0, 3).to_vector(), Each(7.0));
}

TEST_F(Cuda, EventsMeasureTime) {
  cuda::Event begin(true), end(true);
  begin.record(cuda::compute_stream());
  Tensor::full({1 << 24}, 1, DType::f32, kGpu);
  end.record(cuda::compute_stream());
  end.synchronise();
  EXPECT_TRUE(begin.done() && end.done());
  EXPECT_GT(end.milliseconds_since(begin), 0);
}

TEST_F(Cuda, AGraphRepeatsItsWorkInItsOwnMemory) {
  Tensor input = Tensor::full({1000}, 1, DType::f32, kGpu), output;
  cuda::Graph graph;
  graph.capture([&] {
    const Tensor between = input.clone();
    output = between.clone();
  });
  for (int round = 2; round < 5; ++round) {
    input.fill(round);
    const Tensor bystander = Tensor::full({1000}, -1, DType::f32, kGpu);
    graph.replay();
    EXPECT_THAT(output.to_vector(), Each(round));
    EXPECT_THAT(bystander.to_vector(), Each(-1.0));
  }
}

TEST_F(Cuda, AGraphRefusesHostCopiesAndIsUsableAfterAnError) {
  const Tensor tensor = Tensor::full({3}, 1, DType::f32, kGpu);
  cuda::Graph graph;
  EXPECT_THAT(message_of([&] { graph.capture([&] { (void)tensor.to_vector(); }); }),
              HasSubstr("inside a graph capture"));
  EXPECT_FALSE(graph.captured());
  EXPECT_THAT(message_of([&] { graph.replay(); }), HasSubstr("nothing to replay"));
  Tensor output;
  graph.capture([&] { output = tensor.clone(); });
  graph.replay();
  EXPECT_THAT(output.to_vector(), Each(1.0));
}

TEST_F(Cuda, OutOfMemoryIsAnErrorAndLeavesTheDeviceUsable) {
  EXPECT_THAT(message_of([] { Tensor::empty({std::int64_t{1} << 50}, DType::f32, kGpu); }),
              AllOf(HasSubstr("cuda:0 has no"), HasSubstr("free")));
  EXPECT_THAT(Tensor::full({4}, 2, DType::f32, kGpu).to_vector(), Each(2.0));
}

}  // namespace
}  // namespace cmir
