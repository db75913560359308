// Sums over the rows of a matrix: per chunk of rows and tile of columns in a block, then over the
// chunks. The order depends on shape and alignment only.
#pragma once

#include <algorithm>

#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {

inline constexpr int kColumnBlock = 256;

/// Adds the sums of the threads with the same threadIdx.x, pair by pair; the result is in those
/// with threadIdx.y == 0. All threads of the block must call, once in a kernel.
template <class T, int kCount>
__device__ void sum_over_y(T (&sums)[kCount]) {
  CMIR_SHARED(T, partial, [kCount][kColumnBlock]);
  const unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  for (int k = 0; k < kCount; ++k) partial[k][thread] = sums[k];
  unsigned rows = blockDim.y;
  while (rows > 1) {
    const unsigned half = (rows + 1) / 2;
    __syncthreads();
    if (threadIdx.y + half < rows) {
      for (int k = 0; k < kCount; ++k) {
        sums[k] += partial[k][thread + half * blockDim.x];
        partial[k][thread] = sums[k];
      }
    }
    rows = half;
  }
}

/// f.add<N>(row, column, sums) adds what an element and its N - 1 neighbours contribute to
/// f.store<N>(chunk, column, sums). F::kSums sums for each column, of type F::Sum:
/// sums[s * N + k] is sum s of column + k.
template <int N, class F>
__global__ void columns_kernel(F f, std::int64_t rows, std::int64_t width, std::int64_t grain) {
  const std::int64_t tiles = (width / N + blockDim.x - 1) / blockDim.x;
  const std::int64_t chunk = blockIdx.x / tiles;
  const std::int64_t column = (blockIdx.x % tiles * blockDim.x + threadIdx.x) * N;
  const std::int64_t begin = chunk * grain, end = min(rows, begin + grain);
  typename F::Sum sums[F::kSums * N] = {};
  if (column < width) {
    for (std::int64_t row = begin + threadIdx.y; row < end; row += blockDim.y) {
      f.template add<N>(row, column, sums);
    }
  }
  sum_over_y(sums);
  if (threadIdx.y == 0 && column < width) f.template store<N>(chunk, column, sums);
}

/// Blocks of up to 32 threads along the columns, so that a warp reads whole cache lines where there
/// are that many, and as many rows as fit.
inline LaunchConfig columns_configuration(std::int64_t chunks, std::int64_t width, int n) {
  const auto x = static_cast<unsigned>(std::min<std::int64_t>(32, width / n));
  const std::int64_t tiles = (width / n + x - 1) / x;
  return {.grid = dim3(static_cast<unsigned>(chunks * tiles)), .block = dim3(x, kColumnBlock / x)};
}

/// Sums over each chunk of `grain` rows; over no rows there is one chunk, of zeros. `aligned`: as
/// launch_map.
template <class F>
void launch_columns(const F& f, std::int64_t rows, std::int64_t width, std::int64_t grain,
                    bool aligned) {
  constexpr int n = kVectorSize<float>;
  if (width == 0) return;
  const std::int64_t chunks = std::max<std::int64_t>(1, (rows + grain - 1) / grain);
  // Narrow matrices need the threads along the columns more than the vectors.
  if (aligned && width % n == 0 && width >= 32 * n) {
    launch(columns_kernel<n, F>, columns_configuration(chunks, width, n), f, rows, width, grain);
  } else {
    launch(columns_kernel<1, F>, columns_configuration(chunks, width, 1), f, rows, width, grain);
  }
}

/// y[j] = scale * the sum over rows of x[row, j]: the chunks' sums merged.
template <class From, class To>
struct ColumnTotals {
  using Sum = From;
  static constexpr int kSums = 1;
  const From* x;  // rows of `width` columns, `stride` apart
  To* y;          // [width]
  From scale;
  std::int64_t stride;

  template <int N>
  __device__ void add(std::int64_t row, std::int64_t column, Sum (&sums)[N]) const {
    for (int k = 0; k < N; ++k) sums[k] += x[row * stride + column + k];
  }
  template <int N>
  __device__ void store(std::int64_t, std::int64_t column, const Sum (&sums)[N]) const {
    for (int k = 0; k < N; ++k) y[column + k] = static_cast<To>(scale * sums[k]);
  }
};

/// y = scale * the sums over rows of x, whose rows of `width` columns are `stride` apart; zeros
/// over no rows.
template <class From, class To>
void launch_column_totals(const From* x, To* y, From scale, std::int64_t rows, std::int64_t width,
                          std::int64_t stride) {
  launch_columns(ColumnTotals<From, To>{x, y, scale, stride}, rows, width,
                 std::max<std::int64_t>(1, rows), false);
}

}  // namespace cmir::kernels::CMIR_DEVICE
