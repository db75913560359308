// Reductions over the threads of a warp, of a one-dimensional block, or of those that share a row.
// The order is fixed by the thread indices: the same bits on every run.
#pragma once

#include "kernels/cuda/device.h"

namespace cmir::kernels::CMIR_DEVICE {

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
/// Of floating-point numbers the other one where one is NaN.
struct Maximum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return max(a, b);
  }
};
struct Minimum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return min(a, b);
  }
};

/// All 32 lanes' values combined by the commutative `operation`, in every lane. All lanes must
/// call.
template <class T, class Operation>
__device__ T warp_reduce(T value, const Operation& operation) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value = operation(value, __shfl_xor_sync(0xFFFFFFFF, value, distance));
  }
  return value;
}

/// The same over a one-dimensional block of whole warps, in every thread: each warp, then the warps
/// in order. All threads must call.
template <class T, class Operation>
__device__ T block_reduce(T value, const Operation& operation) {
  CMIR_SHARED(T, partial, [32]);
  value = warp_reduce(value, operation);
  __syncthreads();  // everyone has read what the previous call left here
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  T result = partial[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; ++warp) {
    const T other = partial[warp];
    result = operation(result, other);
  }
  return result;
}

/// Over the kThreads threads that share a row: a warp, or the whole one-dimensional block.
template <int kThreads, class T, class Operation>
__device__ T row_reduce(T value, const Operation& operation) {
  if constexpr (kThreads == 32) {
    return warp_reduce(value, operation);
  } else {
    return block_reduce(value, operation);
  }
}

}  // namespace cmir::kernels::CMIR_DEVICE
