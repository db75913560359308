// Kernels that reduce each row of a matrix: a warp per row, or a block where rows are long.
#pragma once

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {

inline constexpr int kRowBlock = 128;
/// Beyond this a warp alone would take too long.
inline constexpr std::int64_t kLongestWarpRow = 1024;

/// Calls f.operator()<kThreads, N>(row, first) on each of the kThreads threads of a row. A thread's
/// columns are `first` .. first + N - 1 and on in steps of kThreads * N; row_reduce<kThreads>
/// combines the threads' values.
template <int kThreads, int N, class F>
__global__ void rows_kernel(F f, std::int64_t rows) {
  const std::int64_t row =
      std::int64_t{blockIdx.x} * (kRowBlock / kThreads) + threadIdx.x / kThreads;
  if (row < rows) f.template operator()<kThreads, N>(row, threadIdx.x % kThreads * N);
}

inline LaunchConfig rows_configuration(std::int64_t rows, int threads_per_row) {
  const std::int64_t rows_per_block = kRowBlock / threads_per_row;
  return {.grid = dim3(static_cast<unsigned>((rows + rows_per_block - 1) / rows_per_block)),
          .block = dim3(kRowBlock)};
}

template <int kThreads, class F>
void launch_rows_of(const F& f, std::int64_t rows, bool vectors) {
  constexpr int n = kVectorSize<float>;
  const LaunchConfig configuration = rows_configuration(rows, kThreads);
  if (vectors) {
    launch(rows_kernel<kThreads, n, F>, configuration, f, rows);
  } else {
    launch(rows_kernel<kThreads, 1, F>, configuration, f, rows);
  }
}

/// Calls f for each row, also where width is 0. `aligned`: as launch_map.
template <class F>
void launch_rows(const F& f, std::int64_t rows, std::int64_t width, bool aligned) {
  if (rows == 0) return;
  const bool vectors = aligned && width % kVectorSize<float> == 0;
  if (width <= kLongestWarpRow) {
    launch_rows_of<32>(f, rows, vectors);
  } else {
    launch_rows_of<kRowBlock>(f, rows, vectors);
  }
}

}  // namespace cmir::kernels::CMIR_DEVICE
