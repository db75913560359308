#include "kernels/invariance/gaussian_mmd.h"

#include "kernels/invariance/pair_tiles.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr unsigned kWriters = 256;  // threads of a block that writes weights

__global__ void mmd_weights_kernel(GaussianMmd<float> a) {
  const std::int64_t position = std::int64_t{blockIdx.x} * kWriters + threadIdx.x;
  if (position >= a.rows.rows) return;
  const std::int64_t counted = a.rows.count_with(a.unbiased ? 2 : 1);
  MmdWeights(a.scratch, a.rows.rows).write(a.rows, a.unbiased, counted, position);
}

/// Turns the pair's distance into the factor of x_i - x_j in the gradient; returns its part of the
/// value.
__device__ double weigh_pair(const GaussianMmd<float>& a, std::int64_t i, std::int64_t j,
                             float& pair) {
  if (i >= a.rows.rows || j >= a.rows.rows || (a.unbiased && i == j)) {
    pair = 0;
    return 0;
  }
  float kernel = 0, slope = 0;
  for (int g = 0; g < a.bank.count; ++g) {
    const auto gamma = static_cast<float>(a.bank.gammas[g]);
    const float e = expf(-gamma * pair);
    kernel += e;
    slope += gamma * e;
  }
  const double weight = MmdWeights(a.scratch, a.rows.rows).of(i, j);
  pair = static_cast<float>(-4 * weight * static_cast<double>(slope));
  return weight * static_cast<double>(kernel);
}

/// A block has 16 rows and walks over the tiles of all.
__global__ void gaussian_mmd_kernel(GaussianMmd<float> a) {
  CMIR_SHARED(float, own, [kPairTileSize]);
  CMIR_SHARED(float, others, [kPairOthersSize]);
  CMIR_SHARED(float, pairs, [kPairTileSize]);
  const RowMatrix rows{a.x, a.rows.rows, a.width};
  const std::int64_t first_i = std::int64_t{blockIdx.x} * kBlockRows;
  double value = 0;
  for (std::int64_t first_j = 0; first_j < a.rows.rows; first_j += kPairLanes) {
    measure_distances(rows, first_i, first_j, own + 0, others + 0, pairs + 0);
    for_own_pairs([&](unsigned row, unsigned lane) {
      float pair = pairs[row * kPairPitch + lane];
      value += weigh_pair(a, first_i + row, first_j + lane, pair);
      pairs[row * kPairPitch + lane] = pair;
    });
    if (a.derivatives != nullptr) {
      add_differences(rows, first_i, first_j, own + 0, others + 0, pairs + 0, a.derivatives);
    }
  }
  value = block_reduce(value, Sum{});
  if (threadIdx.x == 0) MmdWeights(a.scratch, a.rows.rows).partial[blockIdx.x] = value;
}

void gaussian_mmd(const GaussianMmd<float>& a) {
  static_assert(GaussianMmd<float>::kGrain == kBlockRows);  // so there is room for the blocks' sums
  const std::int64_t n = a.rows.rows, blocks = chunk_count(0, n, kBlockRows);
  if (n > 0) {
    launch(mmd_weights_kernel,
           {.grid = dim3(static_cast<unsigned>((n + kWriters - 1) / kWriters)),
            .block = dim3(kWriters)},
           a);
    launch(gaussian_mmd_kernel,
           {.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kPairThreads)}, a);
  }
  scaled_sum(MmdWeights(a.scratch, n).partial, blocks, 1, 1.0, a.value);
}

const RegisterDevice registered{&gaussian_mmd};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
