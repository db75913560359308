// Elementwise kernels whose threads take four consecutive elements each: what one Philox block
// serves, and one 16-byte access where the arrays are aligned.
#pragma once

#include "kernels/cuda/device.h"

namespace cmir::kernels::CMIR_DEVICE {

/// Elements first .. first + 3 of `count`; those past the end are 0. With kVector `values + first`
/// must be aligned for four.
template <bool kVector, class T>
__device__ Vector<T, 4> load_four(const T* values, std::int64_t first, std::int64_t count) {
  if (kVector && first + 4 <= count) return load_vector<T, 4>(values + first);
  Vector<T, 4> four{};
  for (int k = 0; k < 4; ++k) {
    if (first + k < count) four[k] = values[first + k];
  }
  return four;
}
template <bool kVector, class T>
__device__ void store_four(T* values, std::int64_t first, std::int64_t count,
                           const Vector<T, 4>& four) {
  if (kVector && first + 4 <= count) return store_vector(values + first, four);
  for (int k = 0; k < 4; ++k) {
    if (first + k < count) values[first + k] = four[k];
  }
}

inline constexpr unsigned kFourThreads = 256;

/// First of the running thread's four elements.
__device__ inline std::int64_t first_of_four() {
  return 4 * (std::int64_t{blockIdx.x} * kFourThreads + threadIdx.x);
}

/// A thread for every four of `count` elements; `arrays` times that in the grid's y.
inline LaunchConfig four_each(std::int64_t count, std::int64_t arrays = 1) {
  constexpr std::int64_t per_block = 4 * kFourThreads, most = 65535;
  return {.grid = dim3(static_cast<unsigned>((count + per_block - 1) / per_block),
                       static_cast<unsigned>(arrays < most ? arrays : most)),
          .block = dim3(kFourThreads)};
}

}  // namespace cmir::kernels::CMIR_DEVICE
