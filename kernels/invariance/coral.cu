#include "kernels/invariance/coral.h"

#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr unsigned kTile = 32, kRows = 8;  // a block is 32 x 8 threads
constexpr int kEach = kTile / kRows;       // rows of a tile that a thread has
constexpr unsigned kPitch = kTile + 1;     // rows of a tile lie a bank apart

/// A column of an environment's rows, which come 32 at a time: their mean so far, and the tile's.
/// A thread has every kRows-th row of a tile, and all threads of a column the same means.
struct RunningColumn {
  std::int64_t column;
  float values[kEach] = {};
  double mean = 0;
  double ahead = 0;  // the tile's mean less that of the rows before

  /// Reads rows [first, end) of the positions, at most 32; leaves the thread's sum in `sums`.
  __device__ void read(const Coral<float>& a, std::int64_t first, std::int64_t end,
                       const SharedPointer<double>& sums) {
    double sum = 0;
    for (int r = 0; r < kEach; ++r) {
      const std::int64_t k = first + threadIdx.y + r * kRows;
      const bool there = k < end && column < a.width;
      values[r] = there ? a.x[a.rows.row(k) * a.width + column] : 0.0F;
      sum += static_cast<double>(values[r]);
    }
    sums[threadIdx.y * kTile + threadIdx.x] = sum;
  }
  /// Leaves the rows less their mean in `tile`, zeros below the `count` of them; to be called once
  /// all threads have read. `before`: how many rows came before.
  __device__ void centre(std::int64_t count, std::int64_t before, const SharedPointer<double>& sums,
                         const SharedPointer<float>& tile) {
    double sum = 0;
    for (unsigned y = 0; y < kRows; ++y) sum += sums[y * kTile + threadIdx.x];
    const double of_tile = sum / static_cast<double>(count);
    for (unsigned r = 0; r < kEach; ++r) {
      const unsigned row = threadIdx.y + r * kRows;
      tile[row * kPitch + threadIdx.x] =
          row < count ? static_cast<float>(static_cast<double>(values[r]) - of_tile) : 0.0F;
    }
    ahead = of_tile - mean;
    mean += ahead * static_cast<double>(count) / static_cast<double>(before + count);
  }
};

/// A block has a tile of an environment's covariance: tiles of 32 rows about their own means, each
/// moved to the mean of the rows so far as it is added (Chan, Golub, LeVeque: "Updating formulae
/// and a pairwise algorithm for computing sample variances", 1979, eq. 2.1).
__global__ void covariance_kernel(Coral<float> a, std::int64_t tiles) {
  CMIR_SHARED(double, left_sums, [kTile * kRows]);
  CMIR_SHARED(double, right_sums, [kTile * kRows]);
  CMIR_SHARED(double, left_ahead, [kTile]);
  CMIR_SHARED(float, left, [kTile * kPitch]);
  CMIR_SHARED(float, right, [kTile * kPitch]);
  const CoralMoments<float> moments(a);
  const std::int64_t e = blockIdx.x / (tiles * tiles), d = a.width;
  const std::int64_t tile_i = blockIdx.x / tiles % tiles, tile_j = blockIdx.x % tiles;
  const std::int64_t begin = a.rows.offsets[e], end = a.rows.offsets[e + 1];
  const unsigned x = threadIdx.x, y = threadIdx.y;
  RunningColumn of_left{tile_i * kTile + x}, of_right{tile_j * kTile + x};
  double sums[kEach] = {};
  for (std::int64_t first = begin; first < end; first += kTile) {
    const std::int64_t before = first - begin, count = min(end - first, std::int64_t{kTile});
    of_left.read(a, first, end, left_sums + 0);
    of_right.read(a, first, end, right_sums + 0);
    __syncthreads();
    of_left.centre(count, before, left_sums + 0, left + 0);
    of_right.centre(count, before, right_sums + 0, right + 0);
    if (y == 0) left_ahead[x] = of_left.ahead;
    __syncthreads();
    float products[kEach] = {};
    for (unsigned k = 0; k < kTile; ++k) {
      const float v = right[k * kPitch + x];
      for (int r = 0; r < kEach; ++r) products[r] += left[k * kPitch + y + r * kRows] * v;
    }
    const double moved = of_right.ahead * static_cast<double>(before) * static_cast<double>(count) /
                         static_cast<double>(before + count);
    for (int r = 0; r < kEach; ++r) {
      sums[r] += static_cast<double>(products[r]) + moved * left_ahead[y + r * kRows];
    }
  }
  const double degrees = CoralMoments<float>::degrees_of_freedom(end - begin);
  for (int r = 0; r < kEach; ++r) {
    const std::int64_t i = tile_i * kTile + y + r * kRows;
    if (i < d && of_right.column < d) {
      moments.covariances[(e * d + i) * d + of_right.column] =
          static_cast<float>(sums[r] / degrees);
    }
  }
  if (tile_i > 0 || y > 0 || of_right.column >= d) return;
  moments.centres[e * d + of_right.column] = of_right.mean;
  moments.means[e * d + of_right.column] = of_right.mean;
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

/// x less its environment's mean.
__device__ float centred(const Coral<float>& a, const CoralMoments<float>& moments, std::int64_t e,
                         std::int64_t position, std::int64_t column) {
  const auto x = static_cast<double>(a.x[a.rows.row(position) * a.width + column]);
  return static_cast<float>(x - moments.centres[e * a.width + column]);
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
        left[row][x] = own && first_i + x < d ? centred(a, moments, e, k, first_i + x) : 0.0F;
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
