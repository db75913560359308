// Grids, blocks, built-in variables, kernel names and the schedules.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/simt/kernel_name.h"
#include "kernels/simt/schedule.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

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

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
