// Elementwise kernels: one thread for each vector of N elements of a matrix.
#pragma once

#include <algorithm>

#include "kernels/cuda/device.h"

namespace cmir::kernels::CMIR_DEVICE {

/// Calls f.operator()<N>(row, column) for each vector of N elements. Where width % N != 0 there is
/// but one row, and its tail is taken one by one.
template <int N, class F>
__global__ void map_kernel(F f, std::int64_t rows, std::int64_t width) {
  const std::int64_t thread = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t per_row = width / N;
  if (thread < rows * per_row) {
    const std::int64_t row = thread / per_row;
    f.template operator()<N>(row, (thread - row * per_row) * N);
  }
  const std::int64_t tail = per_row * N + thread;
  if (tail < width) f.template operator()<1>(0, tail);
}

inline LaunchConfig map_configuration(std::int64_t rows, std::int64_t width, int n) {
  constexpr unsigned threads = 256;
  const std::int64_t needed = std::max(rows * (width / n), width % n);
  return {.grid = dim3(static_cast<unsigned>((needed + threads - 1) / threads)),
          .block = dim3(threads)};
}

/// Calls f over a [rows, width] matrix; not at all where that is empty. `aligned`: everything that
/// f loads or stores as a vector at (row 0, column 0) is aligned for 16 bytes, and the strides of
/// its rows keep it so where there is more than one and width is a multiple of 4.
template <class F>
void launch_map(const F& f, std::int64_t rows, std::int64_t width, bool aligned) {
  constexpr int n = kVectorSize<float>;
  if (rows == 0 || width == 0) return;
  if (aligned && (rows == 1 || width % n == 0)) {
    launch(map_kernel<n, F>, map_configuration(rows, width, n), f, rows, width);
  } else {
    launch(map_kernel<1, F>, map_configuration(rows, width, 1), f, rows, width);
  }
}

/// Whether all of these pointers are aligned for 16 bytes.
template <class... Pointers>
bool are_vector_aligned(Pointers... pointers) {
  return (is_vector_aligned<kVectorSize<float>>(pointers) && ...);
}

/// The N values at place[index ..], or N times place[0] where `repeated`.
template <int N, class T>
__device__ Vector<T, N> load_or_repeat(const T* place, std::int64_t index, bool repeated) {
  if (!repeated) return load_vector<T, N>(place + index);
  Vector<T, N> vector;
  for (int k = 0; k < N; ++k) vector[k] = place[0];
  return vector;
}

}  // namespace cmir::kernels::CMIR_DEVICE
