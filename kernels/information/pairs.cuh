// What the f32 and the bf16 form of the all-pairs kernels share: how the regions' sums are merged,
// and the gradient of one factor.
#pragma once

#include <limits>

#include "kernels/cuda/device.h"
#include "kernels/information/pairs.h"

namespace cmir::kernels::CMIR_DEVICE {

inline constexpr int kPairThreads = 256;
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

__device__ inline float finite_or_zero(float largest) {
  return largest == kMinusInfinity ? 0.0F : largest;
}

/// Adds sum exp(largest) to a running sum of the same form, in f64.
template <class Total>
__device__ void merge(float largest, double sum, float& total_largest, Total& total) {
  if (sum == 0) return;
  const float reference = fmaxf(total_largest, largest);
  const auto factor = [&](float from) {
    return exp(static_cast<double>(from) - static_cast<double>(reference));
  };
  const auto before = static_cast<double>(total);
  const double kept = before == 0 ? 0.0 : before * factor(total_largest);
  total = static_cast<Total>(kept + sum * factor(largest));
  total_largest = reference;
}

/// Where region (r, c) leaves its rows' and columns' largest and sum: [2, 2, regions, n].
template <class T>
__device__ float* region_place(const PairSums<T>& a, int of_columns, int of_sums,
                               std::int64_t region) {
  return a.workspace + ((2 * of_columns + of_sums) * std::int64_t{gridDim.x} + region) * a.scores.n;
}

/// A thread per row (y = 0) or column (y = 1) adds the regions' sums in order.
template <class T>
__global__ void pair_merge_kernel(PairSums<T> a, int regions) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kPairThreads + threadIdx.x, n = a.scores.n;
  if (i >= n) return;
  const float* part = a.workspace + 2 * std::int64_t{blockIdx.y} * regions * n + i;
  float largest = kMinusInfinity;
  double sum = 0;
  for (int region = 0; region < regions; ++region) {
    merge(part[region * n], static_cast<double>(part[(regions + region) * n]), largest, sum);
  }
  (blockIdx.y == 0 ? a.row_largest : a.column_largest)[i] = largest;
  (blockIdx.y == 0 ? a.row_sum : a.column_sum)[i] = sum;
}

inline unsigned blocks_of(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

template <class T>
void merge_regions(const PairSums<T>& a, unsigned regions) {
  launch(pair_merge_kernel<T>,
         {.grid = dim3(blocks_of(a.scores.n, kPairThreads), a.column_largest != nullptr ? 2 : 1),
          .block = dim3(kPairThreads)},
         a, static_cast<int>(regions));
}

/// PairGradient for one of the factors: `own` is a or b, `other` the other one.
template <class T>
struct Side {
  const T *own, *other;
  const float *own_weight, *own_shift, *other_weight, *other_shift;  // null: zeros
  const float* diagonal_weight;
  float* out;
  PairScores<T> scores;

  CMIR_HOST_DEVICE static Side of(const PairGradient<T>& g, bool a) {
    const PairScores<T>& s = g.scores;
    return {a ? s.a : s.b,
            a ? s.b : s.a,
            a ? g.row_weight : g.column_weight,
            a ? g.row_shift : g.column_shift,
            a ? g.column_weight : g.row_weight,
            a ? g.column_shift : g.row_shift,
            g.diagonal_weight,
            a ? g.da : g.db,
            s};
  }
};

}  // namespace cmir::kernels::CMIR_DEVICE
