#include "kernels/invariance/hsic.h"

#include "kernels/invariance/pair_tiles.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

__device__ HsicSums sums_of(const Hsic<float>& a) { return {a.scratch, a.rows, a.unbiased}; }
__device__ RowMatrix rows_of_x(const Hsic<float>& a) { return {a.x, a.rows, a.x_width}; }
__device__ RowMatrix rows_of_y(const Hsic<float>& a) { return {a.y, a.rows, a.y_width}; }

/// The kernel at a squared distance; 0 where the pair is left out or there is none.
__device__ float kernel_of(const Hsic<float>& a, double gamma, float distance, std::int64_t i,
                           std::int64_t j) {
  const bool there = i < a.rows && j < a.rows && !(a.unbiased && i == j);
  return there ? expf(-static_cast<float>(gamma) * distance) : 0.0F;
}

/// The sums of the kernels of a block's 16 rows, of x or of y.
__device__ void sum_rows(const Hsic<float>& a, const RowMatrix& rows, double gamma, double* sums,
                         const SharedTile& own, const SharedTile& others, const SharedTile& pairs) {
  constexpr int kRows = kBlockRows / kPairWarps;  // of a warp
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::int64_t first_i = std::int64_t{blockIdx.x} * kBlockRows;
  double of_rows[kRows] = {};
  for (std::int64_t first_j = 0; first_j < a.rows; first_j += kPairLanes) {
    measure_distances(rows, first_i, first_j, own, others, pairs);
    for (int r = 0; r < kRows; ++r) {
      const unsigned row = warp + r * kPairWarps;
      const float distance = pairs[row * kPairPitch + lane];
      of_rows[r] +=
          static_cast<double>(kernel_of(a, gamma, distance, first_i + row, first_j + lane));
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const std::int64_t i = first_i + warp + r * kPairWarps;
    const double sum = warp_reduce(of_rows[r], Sum{});
    if (lane == 0 && i < a.rows) sums[i] = sum;
  }
}

__global__ void hsic_sums_kernel(Hsic<float> a) {
  CMIR_SHARED(float, own, [kPairTileSize]);
  CMIR_SHARED(float, others, [kPairOthersSize]);
  CMIR_SHARED(float, pairs, [kPairTileSize]);
  const HsicSums sums = sums_of(a);
  sum_rows(a, rows_of_x(a), a.gamma_x, sums.k, own + 0, others + 0, pairs + 0);
  sum_rows(a, rows_of_y(a), a.gamma_y, sums.l, own + 0, others + 0, pairs + 0);
}

/// One block.
__global__ void hsic_totals_kernel(Hsic<float> a) {
  const HsicSums sums = sums_of(a);
  const double k = strided_sum(sums.k, a.rows, 1), l = strided_sum(sums.l, a.rows, 1);
  if (threadIdx.x > 0) return;
  sums.totals[0] = k;
  sums.totals[1] = l;
}

/// Turns a pair's two distances into the factors of x_i - x_j and of y_i - y_j in the gradients;
/// returns its part of sum K L'.
__device__ double weigh_pair(const Hsic<float>& a, const HsicSums& sums, std::int64_t i,
                             std::int64_t j, float& of_x, float& of_y) {
  const auto k = static_cast<double>(kernel_of(a, a.gamma_x, of_x, i, j)),
             l = static_cast<double>(kernel_of(a, a.gamma_y, of_y, i, j));
  of_x = of_y = 0;
  if (i >= a.rows || j >= a.rows) return 0;
  const double by_k = k * sums.centred_l(l, i, j), by_l = l * sums.centred_k(k, i, j);
  of_x = static_cast<float>(-4 * a.gamma_x * sums.f * by_k);
  of_y = static_cast<float>(-4 * a.gamma_y * sums.f * by_l);
  return by_k;
}

/// A block has 16 rows and walks over the tiles of all.
__global__ void hsic_estimate_kernel(Hsic<float> a) {
  CMIR_SHARED(float, own, [kPairTileSize]);
  CMIR_SHARED(float, others, [kPairOthersSize]);
  CMIR_SHARED(float, x_pairs, [kPairTileSize]);
  CMIR_SHARED(float, y_pairs, [kPairTileSize]);
  const HsicSums sums = sums_of(a);
  const RowMatrix x = rows_of_x(a), y = rows_of_y(a);
  const std::int64_t first_i = std::int64_t{blockIdx.x} * kBlockRows;
  double value = 0;
  for (std::int64_t first_j = 0; first_j < a.rows; first_j += kPairLanes) {
    measure_distances(x, first_i, first_j, own + 0, others + 0, x_pairs + 0);
    measure_distances(y, first_i, first_j, own + 0, others + 0, y_pairs + 0);
    for_own_pairs([&](unsigned row, unsigned lane) {
      const unsigned at = row * kPairPitch + lane;
      float of_x = x_pairs[at], of_y = y_pairs[at];
      value += weigh_pair(a, sums, first_i + row, first_j + lane, of_x, of_y);
      x_pairs[at] = of_x;
      y_pairs[at] = of_y;
    });
    if (a.dx != nullptr) {
      add_differences(x, first_i, first_j, own + 0, others + 0, x_pairs + 0, a.dx);
    }
    if (a.dy != nullptr) {
      add_differences(y, first_i, first_j, own + 0, others + 0, y_pairs + 0, a.dy);
    }
  }
  value = block_reduce(value, Sum{});
  if (threadIdx.x == 0) sums.partial[blockIdx.x] = value;
}

void hsic(const Hsic<float>& a) {
  static_assert(Hsic<float>::kGrain == kBlockRows);  // so there is room for the blocks' sums
  const std::int64_t blocks = chunk_count(0, a.rows, kBlockRows);
  const LaunchConfig every{.grid = dim3(static_cast<unsigned>(blocks)),
                           .block = dim3(kPairThreads)};
  const HsicSums sums(a.scratch, a.rows, a.unbiased);
  launch(hsic_sums_kernel, every, a);
  launch(hsic_totals_kernel, {.grid = dim3(1), .block = dim3(kSumThreads)}, a);
  launch(hsic_estimate_kernel, every, a);
  scaled_sum(sums.partial, blocks, 1, sums.f, a.value);
}

const RegisterDevice registered{&hsic};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
