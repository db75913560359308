// Grids, blocks, built-in variables, kernel names and the schedules.
#include <atomic>
#include <cstdlib>
#include <numeric>
#include <thread>

#include "core/tensor.h"
#include "kernels/elementwise/axpy.h"
#include "kernels/simt/kernel_name.h"
#include "tests/simt/fault_test.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

using namespace testing;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

__global__ void coordinates_kernel(unsigned* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1000 * block + thread;
}

TEST(Launch, RunsEveryThreadOfAGridOfAnyDimensionsOnce) {
  for (const dim3 grid : {dim3(1), dim3(5), dim3(3, 2), dim3(2, 3, 4)}) {
    for (const dim3 block : {dim3(1), dim3(33), dim3(7, 5), dim3(3, 2, 5), dim3(1024)}) {
      const unsigned threads = block.x * block.y * block.z, blocks = grid.x * grid.y * grid.z;
      std::vector<unsigned> expected;
      for (unsigned b = 0; b < blocks; ++b) {
        for (unsigned t = 0; t < threads; ++t) expected.push_back(1000 * b + t);
      }
      EXPECT_EQ(expect_same_under_schedules([&] {
                  std::vector<unsigned> out(threads * blocks, 0);
                  launch(coordinates_kernel, LaunchConfig{grid, block}, out.data());
                  return out;
                }),
                expected);
    }
  }
}

template <class T, int N>
__global__ void reverse_kernel(const T* x, T* y) {
  CMIR_SHARED(T, tile, [N]);
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = tile[N - 1 - threadIdx.x];
}

TEST(Launch, ABarrierMakesSharedMemoryVisible) {
  std::vector<float> x(96);
  std::iota(x.begin(), x.end(), 0.0F);
  const auto y = expect_same_under_schedules([&] {
    std::vector<float> out(96);
    launch(reverse_kernel<float, 96>, LaunchConfig{1, 96}, x.data(), out.data());
    return out;
  });
  EXPECT_EQ(y, std::vector<float>(x.rbegin(), x.rend()));
  EXPECT_EQ(last_kernel(), "reverse_kernel<float, 96>");
  EXPECT_TRUE(kernels_run().contains("reverse_kernel"));
}

/// Reads the others' global memory without a barrier: the result depends on who runs first.
__global__ void order_kernel(int* y) {
  y[threadIdx.x] += threadIdx.x == 0 ? 1 : y[threadIdx.x - 1];
}

__global__ void block_order_kernel(int* y) {
  y[blockIdx.x] += blockIdx.x == 0 ? 1 : y[blockIdx.x - 1];
}

TEST(Schedule, AnOutputThatDependsOnTheOrderIsFound) {
  const auto message = [](auto* kernel, LaunchConfig config) -> std::string {
    try {
      expect_same_under_schedules([&] {
        std::vector<int> y(8, 0);
        launch(kernel, config, y.data());
        return y;
      });
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(
      message(order_kernel, {1, 8}),
      "order_kernel: the output depends on the schedule: element 1 is 1 under ascending and 0 "
      "under descending");
  EXPECT_THAT(message(block_order_kernel, {8, 1}), HasSubstr("depends on the schedule"));
}

TEST(Schedule, IsReadAndWrittenAsText) {
  for (const Schedule& schedule : tried_schedules()) {
    EXPECT_EQ(Schedule::parse(schedule.to_string()), schedule);
  }
  for (const char* text : {"", "up", "random", "random:", "random:x", "random:1x"}) {
    EXPECT_THROW(Schedule::parse(text), Error) << text;
  }
}

TEST(Schedule, ComesFromTheEnvironment) {
  const auto run_in_child = [] {
    setenv("CMIR_SIMT_SCHEDULE", "descending", 1);
    _Exit(current_schedule().to_string() == "descending" ? 0 : 1);
  };
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_in_child(), ::testing::ExitedWithCode(0), "");
}

/// After a fault the stacks are unwound and used again.
template <bool Fault>
__global__ void unwinding_kernel(int* live) {
  struct Count {
    int* live;
    explicit Count(int* count) : live(count) { ++*live; }
    ~Count() { --*live; }
  } count(live);
  __syncthreads();
  if (Fault && threadIdx.x == 5) __syncwarp(1);
  __syncthreads();
}

TEST(Launch, AFaultLeavesNoThreadBehind) {
  const ScheduleScope in_order(Schedule{});
  int live = 0;
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(fault_message(unwinding_kernel<true>, {2, 100}, &live),
                StartsWith("unwinding_kernel<true>: block (0,0,0), thread (5,0,0), "));
    EXPECT_EQ(live, 0);
    EXPECT_EQ(fault_message(unwinding_kernel<false>, {2, 100}, &live), "");
    EXPECT_EQ(live, 0);
  }
}

__global__ void nested_kernel(unsigned* out) { launch(coordinates_kernel, {1, 1}, out); }

TEST(Launch, ImpossibleConfigurationsAreErrors) {
  std::vector<unsigned> out(1);
  const auto message = [&](const LaunchConfig& config) {
    return fault_message(coordinates_kernel, config, out.data());
  };
  EXPECT_THAT(message({0, 32}), StartsWith("coordinates_kernel: a grid of 0 x 1 x 1 blocks"));
  EXPECT_THAT(message({dim3(1, 65536), 32}), HasSubstr("65535 in y and z"));
  EXPECT_THAT(message({1, 1025}), HasSubstr("a block of 1025 x 1 x 1 threads; needs 1 to 1024"));
  EXPECT_THAT(message({1, dim3(1, 1, 65)}), HasSubstr("at most 64 in z"));
  EXPECT_THAT(message({1, dim3(4, 0)}), HasSubstr("a block of 4 x 0 x 1"));
  EXPECT_THAT(fault_message(nested_kernel, {1, 1}, out.data()),
              HasSubstr("kernels do not launch kernels"));
}

TEST(Launch, SeveralThreadsMayLaunch) {
  std::vector<std::vector<unsigned>> out(4, std::vector<unsigned>(256));
  std::vector<std::thread> threads;
  for (auto& values : out) {
    threads.emplace_back([&values] {
      for (int i = 0; i < 20; ++i) {
        launch(coordinates_kernel, LaunchConfig{2, 128}, values.data());
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& values : out) {
    for (unsigned i = 0; i < 256; ++i) EXPECT_EQ(values[i], 20 * (i / 128 * 1000 + i % 128));
  }
}

TEST(KernelName, IsTheFunctionsOwn) {
  EXPECT_EQ(short_name("void a::(anonymous namespace)::f<a::(anonymous namespace)::T, 3>(int*)"),
            "f<a::(anonymous namespace)::T, 3>");
  EXPECT_EQ(short_name("a::b::f(int)"), "f");
  EXPECT_EQ(base_name("f<g<int>, 3>"), "f");
}

TEST(Registry, RunsTheDevicesKernel) {
  const Device simt{DeviceType::simt}, gpu{DeviceType::cuda};
  const Tensor x = Tensor::full({5}, 2.0, DType::f32, simt);
  Tensor y = Tensor::full({5}, 1.0, DType::f32, simt);
  EXPECT_EQ(x.device().to_string(), "simt");
  run(simt, Axpy<float>{3.0F, x.data<float>(), y.mutable_data<float>(), 5});
  EXPECT_EQ(y.data<float>()[4], 7.0F);
  EXPECT_THAT(last_kernel(), StartsWith("axpy_kernel<float"));
  try {
    run(simt, Axpy<double>{});
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "axpy<f64>: has no kernel for device simt in this build; use cpu");
  }
  EXPECT_THROW(run(gpu, Axpy<double>{}), Error);
  for (const KernelInfo& info : registered_kernels()) {
    if (info.name == "axpy<f32>") {
      EXPECT_TRUE(info.simt);
    }
  }
}

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
