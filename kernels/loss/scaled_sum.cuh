// The last step of a sum: one block adds what the others left, in a fixed order.
#pragma once

#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {

inline constexpr unsigned kSumThreads = 256;

/// Sum of values[0], values[stride], ... (`count` of them) in f64, in every thread of the block:
/// each thread adds every kSumThreads-th, then the threads are added.
template <class T>
__device__ double strided_sum(const T* values, std::int64_t count, std::int64_t stride) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kSumThreads) {
    sum += static_cast<double>(values[i * stride]);
  }
  return block_reduce(sum, Sum{});
}

/// *result = scale times that sum.
template <class T>
__global__ void scaled_sum_kernel(const T* values, std::int64_t count, std::int64_t stride,
                                  double scale, float* result) {
  const double sum = strided_sum(values, count, stride);
  if (threadIdx.x == 0) *result = static_cast<float>(scale * sum);
}

/// One block; also for no values, whose sum is 0.
template <class T>
void scaled_sum(const T* values, std::int64_t count, std::int64_t stride, double scale,
                float* result) {
  launch(scaled_sum_kernel<T>, {.grid = dim3(1), .block = dim3(kSumThreads)}, values, count, stride,
         scale, result);
}

}  // namespace cmir::kernels::CMIR_DEVICE
