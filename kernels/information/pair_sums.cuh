// The sums over all pairs on CUDA, and what a bound makes of them in the same launch: Args has the
// PairSums `sums`, finish_sample(i) for a sample of which the sums are there and, where
// wants_total(), finish(the sum of all value_of(i)).
#pragma once

#include "kernels/cuda/last_block.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/information/pair_tile.cuh"
#include "kernels/information/pair_tile_warpgroups.cuh"

namespace cmir::kernels::CMIR_DEVICE {

__device__ inline float finite_or_zero(float largest) {
  return largest == kMinusInfinity ? 0.0F : largest;
}

/// Scales a tile's products, leaves the diagonal in a.diagonal, and masks it and what is past the
/// end.
template <class Tiles>
__device__ void finish_scores(const PairSums<typename Tiles::Element>& a, int row, int column,
                              float scale, typename Tiles::Scores& scores) {
  const int rows = min(static_cast<int>(a.scores.n) - row, kTile);
  const int columns = min(static_cast<int>(a.scores.n) - column, kTile);
  Tiles::for_each_score([&](int m, int n, int e) { scores[m][n][e] *= scale; });
  if (row != column && rows == kTile && columns == kTile) return;
  Tiles::for_each_score([&](int m, int n, int e) {
    const int i = Tiles::own_row(m, e / 2), j = Tiles::own_column(n, e % 2);
    const bool own = row == column && i == j;
    if (own && i < rows) a.diagonal[row + i] = scores[m][n][e];
    if (i >= rows || j >= columns || own) scores[m][n][e] = kMinusInfinity;
  });
}

/// The largest of a warp's scores if all lie within kPairRange of each other, else NaN. What is
/// masked does not count.
template <class Tiles>
__device__ float shared_reference(const typename Tiles::Scores& scores) {
  float largest = kMinusInfinity, smallest = -kMinusInfinity;
  Tiles::for_each_score([&](int m, int n, int e) {
    const float score = scores[m][n][e];
    largest = fmaxf(largest, score);
    smallest = fminf(smallest, score == kMinusInfinity ? -kMinusInfinity : score);
  });
  largest = warp_reduce(largest, Maximum{});
  smallest = warp_reduce(smallest, Minimum{});
  const bool near = largest > kMinusInfinity && largest - smallest <= kPairRange;
  return near ? largest : std::numeric_limits<float>::quiet_NaN();
}

/// Over the lanes kFirst, 2 kFirst .. kLast apart: 1 and 2 share rows, 4 to 16 columns.
template <int kFirst, int kLast, class Operation>
__device__ float reduce_lanes(float value, const Operation& operation) {
  for (int distance = kFirst; distance <= kLast; distance *= 2) {
    value = operation(value, __shfl_xor_sync(0xFFFFFFFF, value, distance));
  }
  return value;
}

/// What each warp found, of each of the tile's rows in each of kAcross warps, of each column in
/// each of kDown.
struct Parts {
  SharedPointer<float> row_largest, row_sum, column_largest, column_sum;
};

/// One part of a row or column from all its elements; f(i) is the i-th of the thread's kCount.
/// Where `shared` is a reference, they are already exp(score - shared).
template <class T, int kCount, int kFirst, int kLast, class F>
__device__ void leave_part(float shared, bool writes, int place,
                           const SharedPointer<float>& largest_part,
                           const SharedPointer<float>& sum_part, const F& f) {
  float largest = shared, sum = 0;
  if (isnan(shared)) {
    largest = kMinusInfinity;
    for (int i = 0; i < kCount; ++i) largest = fmaxf(largest, f(i));
    largest = reduce_lanes<kFirst, kLast>(largest, Maximum{});
    for (int i = 0; i < kCount; ++i) {
      sum += exponential<T>(f(i) - finite_or_zero(largest));
    }
  } else {
    for (int i = 0; i < kCount; ++i) sum += f(i);
  }
  sum = reduce_lanes<kFirst, kLast>(sum, Sum{});
  if (!writes) return;
  largest_part[place] = largest;
  sum_part[place] = sum;
}

/// Each of the 8 lanes that share columns gives kCount values, and gets sums over the lanes:
/// values[i] of value lane / 4 kCount / 8 + i. Each step halves what is left, so 7 / 8 kCount
/// shuffles.
template <int kCount>
__device__ void share_sums(float (&values)[kCount]) {
  int left = kCount;
  for (int distance = 16; distance >= 4; distance /= 2) {
    left /= 2;
    const bool upper = (lane_of_warp() & distance) != 0;
    for (int i = 0; i < left; ++i) {
      const float other = upper ? values[i] : values[left + i];
      const float own = upper ? values[left + i] : values[i];
      values[i] = own + __shfl_xor_sync(0xFFFFFFFF, other, distance);
    }
  }
}

/// The warp's part of each column of the tile.
template <class Tiles>
__device__ void leave_column_parts(const typename Tiles::Scores& scores, float shared,
                                   const Parts& parts) {
  using T = typename Tiles::Element;
  constexpr int count = 2 * Tiles::kColumnTiles, rows = 2 * Tiles::kRowTiles;
  const int own = Tiles::warp() / Tiles::kAcross * kTile;
  if (isnan(shared)) {
    for_constants<count>([&](auto c) {
      constexpr int n = c / 2, odd = c % 2;
      leave_part<T, rows, 4, 16>(shared, lane_of_warp() / 4 == 0, own + Tiles::own_column(n, odd),
                                 parts.column_largest, parts.column_sum,
                                 [&](int i) { return scores[i / 2][n][i % 2 * 2 + odd]; });
    });
    return;
  }
  float sums[count] = {};
  Tiles::for_each_score([&](int m, int n, int e) { sums[2 * n + e % 2] += scores[m][n][e]; });
  share_sums(sums);
  for (int i = 0; i < count / 8; ++i) {
    const int c = lane_of_warp() / 4 * (count / 8) + i;
    const int place = own + Tiles::own_column(c / 2, c % 2);
    parts.column_largest[place] = shared;
    parts.column_sum[place] = sums[i];
  }
}

/// The warp's part of each row and column of the tile.
template <class Tiles>
__device__ void leave_parts(typename Tiles::Scores& scores, bool columns, const Parts& parts) {
  using T = typename Tiles::Element;
  const float shared = shared_reference<Tiles>(scores);
  if (!isnan(shared)) {
    Tiles::for_each_score([&](int m, int n, int e) {
      float& score = scores[m][n][e];
      score = exponential<T>(score - shared);
    });
  }
  for_constants<2 * Tiles::kRowTiles>([&](auto r) {
    constexpr int m = r / 2, half = r % 2;
    leave_part<T, 2 * Tiles::kColumnTiles, 1, 2>(
        shared, lane_of_warp() % 4 == 0,
        Tiles::warp() % Tiles::kAcross * kTile + Tiles::own_row(m, half), parts.row_largest,
        parts.row_sum, [&](int i) { return scores[m][i / 2][2 * half + i % 2]; });
  });
  if (columns) leave_column_parts<Tiles>(scores, shared, parts);
}

/// Adds kParts parts, kTile apart, to a running sum of the same form. An empty part's largest means
/// nothing.
template <int kParts>
__device__ void add_parts(const SharedPointer<float>& largests, const SharedPointer<float>& sums,
                          int place, float& largest, float& total) {
  float largest_of[kParts], sum_of[kParts], reference = largest;
  for (int part = 0; part < kParts; ++part) {
    sum_of[part] = sums[place + part * kTile];
    largest_of[part] = largests[place + part * kTile];
    if (sum_of[part] == 0) largest_of[part] = kMinusInfinity;
    reference = fmaxf(reference, largest_of[part]);
  }
  const float finite = finite_or_zero(reference);
  total *= expf(largest - finite);
  for (int part = 0; part < kParts; ++part) total += sum_of[part] * expf(largest_of[part] - finite);
  largest = reference;
}

/// Where region (r, c) leaves its rows' and columns' largest and sum: [2, 2, regions, n].
template <class T>
__device__ float* region_place(const PairSums<T>& a, int of_columns, int of_sums,
                               std::int64_t region) {
  return a.workspace + ((2 * of_columns + of_sums) * std::int64_t{gridDim.x} + region) * a.scores.n;
}

/// Adds up the tiles of region (blockIdx.x, blockIdx.y). Thread t keeps the running sums of row t
/// of the tile, and adds those of column t - kTile to what the region has of it so far.
template <class Tiles>
__device__ void sum_region(const PairSums<typename Tiles::Element>& a,
                           const typename Tiles::Source& source, int region) {
  CMIR_DYNAMIC_SHARED(typename Tiles::Element, memory);
  CMIR_SHARED(float, row_parts, [2 * Tiles::kAcross * kTile]);
  CMIR_SHARED(float, column_parts, [2 * Tiles::kDown * kTile]);
  const Parts parts{row_parts, row_parts + Tiles::kAcross * kTile, column_parts,
                    column_parts + Tiles::kDown * kTile};
  const int thread = static_cast<int>(threadIdx.x), n = static_cast<int>(a.scores.n);
  const int first_row = static_cast<int>(blockIdx.x) * region,
            first_column = static_cast<int>(blockIdx.y) * region;
  const TileRange range{first_row, min(first_row + region, n), first_column,
                        min(first_column + region, n)};
  const auto scale = static_cast<float>(a.scores.scale());
  const bool has_columns = a.column_largest != nullptr;
  float row_largest = kMinusInfinity, row_sum = 0;
  const Tiles tiles(a.scores, source, memory);
  tiles.for_each(range, [&](int row, int column, typename Tiles::Scores& scores) {
    finish_scores<Tiles>(a, row, column, scale, scores);
    leave_parts<Tiles>(scores, has_columns, parts);
    __syncthreads();
    if (thread >= kTile) {
      const int own = thread - kTile, j = column + own;
      if (!has_columns || j >= n) return;
      float* const largest_place = region_place(a, 1, 0, blockIdx.x) + j;
      float* const sum_place = region_place(a, 1, 1, blockIdx.x) + j;
      float largest = row > range.row ? *largest_place : kMinusInfinity;
      float sum = row > range.row ? *sum_place : 0.0F;
      add_parts<Tiles::kDown>(parts.column_largest, parts.column_sum, own, largest, sum);
      *largest_place = largest;
      *sum_place = sum;
      return;
    }
    add_parts<Tiles::kAcross>(parts.row_largest, parts.row_sum, thread, row_largest, row_sum);
    if (column + kTile < range.column_end) return;
    const int i = row + thread;
    if (i < n) {
      region_place(a, 0, 0, blockIdx.y)[i] = row_largest;
      region_place(a, 0, 1, blockIdx.y)[i] = row_sum;
    }
    row_largest = kMinusInfinity;
    row_sum = 0;
  });
}

/// Adds the regions' sums of row (or column) i, in order, in f64.
template <class T>
__device__ void merge_regions(const PairSums<T>& a, int of_columns, std::int64_t i) {
  const int regions = static_cast<int>(gridDim.x);
  const float* const largests = region_place(a, of_columns, 0, 0) + i;
  const float* const sums = region_place(a, of_columns, 1, 0) + i;
  float largest = kMinusInfinity;
  double sum = 0;
#pragma unroll 4
  for (int region = 0; region < regions; ++region) {
    const float other = largests[region * a.scores.n], other_sum = sums[region * a.scores.n];
    if (other_sum == 0) continue;
    const double apart = static_cast<double>(other) - static_cast<double>(largest);
    if (apart > 0) {
      sum = sum * exp(-apart) + static_cast<double>(other_sum);
      largest = other;
    } else {
      sum += static_cast<double>(other_sum) * exp(apart);
    }
  }
  (of_columns == 0 ? a.row_largest : a.column_largest)[i] = largest;
  (of_columns == 0 ? a.row_sum : a.column_sum)[i] = sum;
}

/// f(i) for each sample of a strip, the rows (or columns) of a region: always by the same thread.
template <class F>
__device__ void for_strip(unsigned strip, int region, std::int64_t n, const F& f) {
  const std::int64_t begin = std::int64_t{strip} * region, end = min(begin + region, n);
  for (std::int64_t i = begin + threadIdx.x; i < end; i += kPairThreads) f(i);
}

/// Block (x, y): rows of region x, columns of region y. The last block of a strip merges it; the
/// last of these finishes the samples, when their rows and their columns are merged.
template <class Tiles, class Args>
__global__ void __launch_bounds__(kPairThreads, Tiles::kBlocks)
    pair_sums_kernel(const __grid_constant__ Args a,
                     const __grid_constant__ typename Tiles::Source source, int region) {
  if constexpr (Tiles::kHere) {
    const auto& sums = a.sums;
    const std::int64_t n = sums.scores.n;
    const unsigned regions = gridDim.x;
    auto* const counters = reinterpret_cast<unsigned*>(region_place(sums, 2, 0, 0));
    const unsigned ways = sums.column_largest != nullptr ? 2 : 1;
    sum_region<Tiles>(sums, source, region);
    for (unsigned way = 0; way < ways; ++way) {
      const unsigned strip = way == 0 ? blockIdx.x : blockIdx.y;
      if (!is_last_block(counters + way * regions + strip, regions)) continue;
      for_strip(strip, region, n, [&](std::int64_t i) { merge_regions(sums, way, i); });
      if (!is_last_block(counters + 2 * regions + strip, ways)) continue;
      for_strip(strip, region, n, [&](std::int64_t i) { a.finish_sample(i); });
      if (!a.wants_total() || !is_last_block(counters + 3 * regions, regions)) continue;
      double total = 0;
      for (std::int64_t i = threadIdx.x; i < n; i += kPairThreads) total += a.value_of(i);
      total = block_reduce(total, Sum{});
      if (threadIdx.x == 0) a.finish(total);
    }
  }
}

template <class Tiles, class Args>
void sum_pairs_by(const Args& a) {
  const auto& scores = a.sums.scores;
  const std::int64_t n = scores.n, region = pair_region(n);
  const unsigned regions = blocks_of(n, region);
  clear_counters(reinterpret_cast<unsigned*>(a.sums.workspace + 4 * regions * n), 3 * regions + 1);
  launch(pair_sums_kernel<Tiles, Args>,
         {.grid = dim3(regions, regions),
          .block = dim3(kPairThreads),
          .shared_bytes = Tiles::shared_bytes(scores)},
         a, Tiles::source_of(scores), static_cast<int>(region));
}

template <class Args>
void sum_pairs(const Args& a) {
  using T = typename ScalarOf<Args>::type;
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (PairWarpgroupTiles::takes(a.sums.scores)) return sum_pairs_by<PairWarpgroupTiles>(a);
  }
  sum_pairs_by<MmaTiles<T>>(a);
}

}  // namespace cmir::kernels::CMIR_DEVICE
