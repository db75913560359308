#include "kernels/invariance/coral.h"

#include "kernels/cuda/columns.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr unsigned kTile = 32, kRows = 8;  // a block is 32 x 8 threads
constexpr int kEach = kTile / kRows;       // rows of a tile that a thread has

/// A block centres 32 columns of an environment.
__global__ void centre_columns_kernel(Coral<float> a, std::int64_t tiles) {
  CMIR_SHARED(double, mean_of_column, [kTile]);
  const CoralMoments<float> moments(a);
  const std::int64_t e = blockIdx.x / tiles;
  const std::int64_t column = blockIdx.x % tiles * kTile + threadIdx.x;
  const std::int64_t begin = a.rows.offsets[e], end = a.rows.offsets[e + 1];
  double sums[1] = {};
  for (std::int64_t k = begin + threadIdx.y; column < a.width && k < end; k += kRows) {
    sums[0] += static_cast<double>(a.x[a.rows.row(k) * a.width + column]);
  }
  sum_over_y(sums);
  if (threadIdx.y == 0) {
    mean_of_column[threadIdx.x] = end > begin ? sums[0] / static_cast<double>(end - begin) : 0.0;
  }
  __syncthreads();
  if (column >= a.width) return;
  const double mean = mean_of_column[threadIdx.x];
  if (threadIdx.y == 0) moments.means[e * a.width + column] = mean;
  for (std::int64_t k = begin + threadIdx.y; k < end; k += kRows) {
    const auto x = static_cast<double>(a.x[a.rows.row(k) * a.width + column]);
    moments.centred[k * a.width + column] = static_cast<float>(x - mean);
  }
}

/// A block has a tile of an environment's covariance.
__global__ void covariance_kernel(Coral<float> a, std::int64_t tiles) {
  CMIR_SHARED(float, left, [kTile][kTile + 1]);
  CMIR_SHARED(float, right, [kTile][kTile + 1]);
  const CoralMoments<float> moments(a);
  const std::int64_t e = blockIdx.x / (tiles * tiles), d = a.width;
  const std::int64_t first_i = blockIdx.x / tiles % tiles * kTile;
  const std::int64_t first_j = blockIdx.x % tiles * kTile;
  const std::int64_t begin = a.rows.offsets[e], end = a.rows.offsets[e + 1];
  const unsigned x = threadIdx.x, y = threadIdx.y;
  float sums[kEach] = {};
  for (std::int64_t first = begin; first < end; first += kTile) {
    __syncthreads();
    for (unsigned row = y; row < kTile; row += kRows) {
      const float* centred = moments.centred + (first + row) * d;
      const bool there = first + row < end;
      left[row][x] = there && first_i + x < d ? centred[first_i + x] : 0.0F;
      right[row][x] = there && first_j + x < d ? centred[first_j + x] : 0.0F;
    }
    __syncthreads();
    for (unsigned k = 0; k < kTile; ++k) {
      const float v = right[k][x];
      for (int r = 0; r < kEach; ++r) sums[r] += left[k][y + r * kRows] * v;
    }
  }
  const auto scale = static_cast<float>(1 / CoralMoments<float>::degrees_of_freedom(end - begin));
  for (int r = 0; r < kEach; ++r) {
    const std::int64_t i = first_i + y + r * kRows, j = first_j + x;
    if (i < d && j < d) moments.covariances[(e * d + i) * d + j] = scale * sums[r];
  }
}

__global__ void compare_moments_kernel(Coral<float> a) {
  const CoralMoments<float> moments(a);
  const auto counted = static_cast<double>(a.rows.count_with(1));
  const std::int64_t elements = a.width + a.width * a.width;
  const std::int64_t step = std::int64_t{gridDim.x} * kSumThreads;
  double sum = 0;
  for (std::int64_t j = std::int64_t{blockIdx.x} * kSumThreads + threadIdx.x; j < elements;
       j += step) {
    sum += compare_element(a, moments, counted, j);
  }
  sum = block_reduce(sum, Sum{});
  if (threadIdx.x == 0) moments.partial[blockIdx.x] = sum;
}

/// A block has 32 columns of the gradient at 32 positions, which may be of several environments:
/// for each it multiplies with the rows of the others as 0.
__global__ void coral_gradient_kernel(Coral<float> a, std::int64_t tiles) {
  CMIR_SHARED(float, left, [kTile][kTile + 1]);
  CMIR_SHARED(float, right, [kTile][kTile + 1]);
  const CoralMoments<float> moments(a);
  const std::int64_t d = a.width, first = blockIdx.x / tiles * kTile;
  const std::int64_t first_j = blockIdx.x % tiles * kTile;
  const std::int64_t end = min(first + kTile, a.rows.rows);
  const std::int64_t last = a.rows.environment_of(end - 1);
  const unsigned x = threadIdx.x, y = threadIdx.y;
  float sums[kEach] = {};
  for (std::int64_t e = a.rows.environment_of(first); e <= last; ++e) {
    for (std::int64_t first_i = 0; first_i < d; first_i += kTile) {
      __syncthreads();
      for (unsigned row = y; row < kTile; row += kRows) {
        const std::int64_t k = first + row, i = first_i + row;
        const bool own = k < end && k >= a.rows.offsets[e] && k < a.rows.offsets[e + 1];
        left[row][x] = own && first_i + x < d ? moments.centred[k * d + first_i + x] : 0.0F;
        right[row][x] =
            i < d && first_j + x < d ? moments.covariances[(e * d + i) * d + first_j + x] : 0.0F;
      }
      __syncthreads();
      for (unsigned c = 0; c < kTile; ++c) {
        const float v = right[c][x];
        for (int r = 0; r < kEach; ++r) sums[r] += left[y + r * kRows][c] * v;
      }
    }
  }
  for (int r = 0; r < kEach; ++r) {
    const std::int64_t k = first + y + r * kRows, j = first_j + x;
    if (k >= end || j >= d) continue;
    const std::int64_t e = a.rows.environment_of(k), n = a.rows.size(e);
    const double of_mean = moments.means[e * d + j] / static_cast<double>(n);
    const auto scale = static_cast<float>(2 / CoralMoments<float>::degrees_of_freedom(n));
    a.derivatives[a.rows.row(k) * d + j] = scale * sums[r] + static_cast<float>(of_mean);
  }
}

void coral(const Coral<float>& a) {
  static_assert(Coral<float>::kDeviceGrain == kSumThreads);
  const std::int64_t tiles = (a.width + kTile - 1) / kTile;
  const auto tiled = [](std::int64_t blocks) {
    return LaunchConfig{.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kTile, kRows)};
  };
  launch(centre_columns_kernel, tiled(a.rows.environments * tiles), a, tiles);
  launch(covariance_kernel, tiled(a.rows.environments * tiles * tiles), a, tiles);
  const std::int64_t blocks = device_sum_blocks(a.width + a.width * a.width, kSumThreads);
  launch(compare_moments_kernel,
         {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kSumThreads)}, a);
  scaled_sum(CoralMoments<float>(a).partial, blocks, 1, 1.0, a.value);
  if (a.derivatives == nullptr || a.rows.rows == 0) return;
  const std::int64_t rows = (a.rows.rows + kTile - 1) / kTile;
  launch(coral_gradient_kernel, tiled(rows * tiles), a, tiles);
}

const RegisterDevice registered{&coral};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
