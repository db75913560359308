#include "kernels/loss/invariance.h"

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr int kThreads = static_cast<int>(InvarianceForward<float>::kDeviceGrain);

/// A thread owns a position, whose variants it holds in a column of shared memory: no other thread
/// reads them. Every variant meets all others, so that its rank needs no memory.
__global__ void invariance_kernel(const float* z, int variants, std::int64_t count, double* partial,
                                  std::int8_t* ranks) {
  CMIR_DYNAMIC_SHARED(float, buffer);
  const auto column = buffer + threadIdx.x;
  double sum = 0;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += std::int64_t{gridDim.x} * kThreads) {
    for (int v = 0; v < variants; ++v) column[v * kThreads] = z[v * count + i];
    float distances = 0;
    for (int v = 0; v < variants; ++v) {
      const float x = column[v * kThreads];
      int rank = 0;
      for (int w = ranks != nullptr ? 0 : v + 1; w < variants; ++w) {
        const float y = column[w * kThreads];
        rank += static_cast<int>(x > y) - static_cast<int>(x < y);
        if (w > v) distances += fabsf(x - y);
      }
      if (ranks != nullptr) ranks[v * count + i] = static_cast<std::int8_t>(rank);
    }
    sum += static_cast<double>(distances);
  }
  sum = block_reduce(sum, Sum{});
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

struct ScaledRank {
  InvarianceBackward<float> a;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    const float factor = static_cast<float>(a.scale) * *a.cotangent;
    const auto ranks = load_vector<std::int8_t, N>(a.ranks + i);
    Vector<float, N> dz;
    for (int k = 0; k < N; ++k) dz[k] = factor * static_cast<float>(ranks[k]);
    store_vector(a.dz + i, dz);
  }
};

void forward(const InvarianceForward<float>& a) {
  const std::int64_t blocks = device_sum_blocks(a.count, kThreads);
  if (blocks > 0) {
    launch(invariance_kernel,
           {.grid = dim3(static_cast<unsigned>(blocks)),
            .block = dim3(kThreads),
            .shared_bytes = static_cast<std::size_t>(a.variants) * kThreads * sizeof(float)},
           a.z, static_cast<int>(a.variants), a.count, a.partial, a.ranks);
  }
  scaled_sum(a.partial, blocks, 1, a.scale, a.value);
}

void backward(const InvarianceBackward<float>& a) {
  launch_map(ScaledRank{a}, 1, a.count, is_vector_aligned<4>(a.ranks) && are_vector_aligned(a.dz));
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
