#include "kernels/loss/squared_distance.h"

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/loss/fours.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <bool kVector>
__global__ void squared_distance_kernel(const float* a, const float* b, std::int64_t count,
                                        double* partial) {
  double sum = 0;
  const std::int64_t step = 4 * std::int64_t{gridDim.x} * kFourThreads;
  for (std::int64_t first = first_of_four(); first < count; first += step) {
    const auto x = load_four<kVector>(a, first, count), y = load_four<kVector>(b, first, count);
    float four = 0;  // few enough for f32
    for (int k = 0; k < 4; ++k) four += (x[k] - y[k]) * (x[k] - y[k]);
    sum += static_cast<double>(four);
  }
  sum = block_reduce(sum, Sum{});
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

struct ScaledDifference {
  SquaredDistanceBackward<float> a;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    const float factor = static_cast<float>(2 * a.scale) * *a.cotangent;
    const auto x = load_vector<float, N>(a.a + i), y = load_vector<float, N>(a.b + i);
    Vector<float, N> da, db;
    for (int k = 0; k < N; ++k) {
      da[k] = factor * (x[k] - y[k]);
      db[k] = -da[k];
    }
    if (a.da != nullptr) store_vector(a.da + i, da);
    if (a.db != nullptr) store_vector(a.db + i, db);
  }
};

void forward(const SquaredDistanceForward<float>& a) {
  using Forward = SquaredDistanceForward<float>;
  static_assert(Forward::kDeviceGrain == 4 * kFourThreads);
  const std::int64_t blocks = device_sum_blocks(a.count, Forward::kDeviceGrain);
  if (blocks > 0) {
    const bool vector = are_vector_aligned(a.a, a.b);
    launch(vector ? squared_distance_kernel<true> : squared_distance_kernel<false>,
           {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kFourThreads)}, a.a, a.b,
           a.count, a.partial);
  }
  scaled_sum(a.partial, blocks, 1, a.scale, a.value);
}

void backward(const SquaredDistanceBackward<float>& a) {
  launch_map(ScaledDifference{a}, 1, a.count, are_vector_aligned(a.a, a.b, a.da, a.db));
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
