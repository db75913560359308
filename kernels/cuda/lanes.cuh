// Kernels that reduce short rows: a thread for each row, or a warp where rows are longer.
#pragma once

#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {

inline constexpr unsigned kLaneBlock = 128;
inline constexpr std::int64_t kNarrow = 8;  // rows up to this width have one thread

/// The running thread's row. A row's threads are kLanes consecutive ones: 1 or 32.
template <int kLanes>
__device__ std::int64_t row_of_lanes() {
  return (std::int64_t{blockIdx.x} * kLaneBlock + threadIdx.x) / kLanes;
}
template <int kLanes, class Operation>
__device__ float lanes_reduce(float value, const Operation& operation) {
  return kLanes == 32 ? warp_reduce(value, operation) : value;
}
inline LaunchConfig lanes_configuration(std::int64_t rows, std::int64_t width) {
  const std::int64_t threads = width <= kNarrow ? rows : 32 * rows;
  return {.grid = dim3(static_cast<unsigned>((threads + kLaneBlock - 1) / kLaneBlock)),
          .block = dim3(kLaneBlock)};
}

}  // namespace cmir::kernels::CMIR_DEVICE
