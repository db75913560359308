// A launch that goes on, in the last of its blocks to come somewhere, with what they have all left
// in global memory (CUDA's sample threadFenceReduction).
#pragma once

#include <cstring>

#include "kernels/cuda/device.h"

#if defined(__CUDACC__)
#include "core/cuda/runtime.h"
#endif

namespace cmir::kernels::CMIR_DEVICE {

/// Sets counters to 0 before the launch.
inline void clear_counters(unsigned* counters, std::int64_t count) {
#if defined(__CUDACC__)
  constexpr unsigned zero = 0;
  ::cmir::cuda::fill(counters, &zero, sizeof(zero), count);
#else
  std::memset(counters, 0, static_cast<std::size_t>(count) * sizeof(*counters));
#endif
}

/// Whether this block is the last of `blocks` that call with this counter. It then sees what the
/// others have written before they called. All threads call, and meet.
__device__ inline bool is_last_block(unsigned* counter, unsigned blocks) {
  __syncthreads();
  bool last = false;
  if (threadIdx.x == 0) {
    __threadfence();
    last = atomicAdd(counter, 1U) + 1 == blocks;
    __threadfence();
  }
  return __syncthreads_or(last ? 1 : 0) != 0;
}

}  // namespace cmir::kernels::CMIR_DEVICE
