#include "kernels/cuda/reduce.cuh"
#include "kernels/information/pair_tile.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

__device__ float finite_or_zero(float largest) {
  return largest == kMinusInfinity ? 0.0F : largest;
}

/// Scales a tile's products, leaves the diagonal in a.diagonal, and masks it and what is past the
/// end.
template <class T>
__device__ void finish_scores(const PairSums<T>& a, int row, int column, float scale,
                              WarpScores& scores) {
  const int rows = min(static_cast<int>(a.scores.n) - row, kTile);
  const int columns = min(static_cast<int>(a.scores.n) - column, kTile);
  for_each_score([&](int m, int n, int e) { scores[m][n][e] *= scale; });
  if (row != column && rows == kTile && columns == kTile) return;
  for_each_score([&](int m, int n, int e) {
    const int i = own_row(m, e / 2), j = own_column(n, e % 2);
    const bool own = row == column && i == j;
    if (own && i < rows) a.diagonal[row + i] = scores[m][n][e];
    if (i >= rows || j >= columns || own) scores[m][n][e] = kMinusInfinity;
  });
}

/// The largest of a warp's scores if all lie within kPairRange of each other, else NaN. What is
/// masked does not count.
__device__ float shared_reference(const WarpScores& scores) {
  float largest = kMinusInfinity, smallest = -kMinusInfinity;
  for_each_score([&](int m, int n, int e) {
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

/// The warp's part of each row and column of the tile.
template <class T>
__device__ void leave_parts(WarpScores& scores, bool columns, const Parts& parts) {
  const float shared = shared_reference(scores);
  if (!isnan(shared)) {
    for_each_score([&](int m, int n, int e) {
      float& score = scores[m][n][e];
      score = exponential<T>(score - shared);
    });
  }
  for_constants<2 * kRowTiles>([&](auto r) {
    constexpr int m = r / 2, half = r % 2;
    leave_part<T, 2 * kColumnTiles, 1, 2>(
        shared, lane_of_warp() % 4 == 0, warp() % kAcross * kTile + own_row(m, half),
        parts.row_largest, parts.row_sum,
        [&](int i) { return scores[m][i / 2][2 * half + i % 2]; });
  });
  if (!columns) return;
  for_constants<2 * kColumnTiles>([&](auto c) {
    constexpr int n = c / 2, odd = c % 2;
    leave_part<T, 2 * kRowTiles, 4, 16>(shared, lane_of_warp() / 4 == 0,
                                        warp() / kAcross * kTile + own_column(n, odd),
                                        parts.column_largest, parts.column_sum,
                                        [&](int i) { return scores[i / 2][n][i % 2 * 2 + odd]; });
  });
}

/// Adds sum exp(largest) to a running sum of the same form.
__device__ void add_part(float largest, float sum, float& total_largest, float& total) {
  if (sum == 0) return;
  const float reference = fmaxf(total_largest, largest);
  const float kept = total == 0 ? 0.0F : total * expf(total_largest - reference);
  total = kept + sum * expf(largest - reference);
  total_largest = reference;
}

/// Where region (r, c) leaves its rows' and columns' largest and sum: [2, 2, regions, n].
template <class T>
__device__ float* region_place(const PairSums<T>& a, int of_columns, int of_sums,
                               std::int64_t region) {
  return a.workspace + ((2 * of_columns + of_sums) * std::int64_t{gridDim.x} + region) * a.scores.n;
}

/// Block (x, y): rows of region x, columns of region y. Thread t keeps the running sums of row t of
/// the tile, or of column t - kTile in shared memory.
template <class T>
__global__ void __launch_bounds__(kPairThreads, kPairBlocks<T>)
    pair_sums_kernel(PairSums<T> a, int region, bool vectors) {
  CMIR_DYNAMIC_SHARED(T, chunks);  // [kChunks<T>], and the columns' [2][region]
  CMIR_SHARED(float, row_parts, [2 * kAcross * kTile]);
  CMIR_SHARED(float, column_parts, [2 * kDown * kTile]);
  const Parts parts{row_parts, row_parts + kAcross * kTile, column_parts,
                    column_parts + kDown * kTile};
  const auto columns = shared_cast<float>(chunks + kChunks<T>);
  const int thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e < 2 * region; e += kPairThreads) {
    columns[e] = e < region ? kMinusInfinity : 0.0F;
  }

  const int n = static_cast<int>(a.scores.n);
  const int first_row = static_cast<int>(blockIdx.x) * region,
            first_column = static_cast<int>(blockIdx.y) * region;
  const TileRange tiles{first_row, min(first_row + region, n), first_column,
                        min(first_column + region, n)};
  const auto scale = static_cast<float>(a.scores.scale());
  const bool has_columns = a.column_largest != nullptr;
  float row_largest = kMinusInfinity, row_sum = 0;
  for_each_tile(a.scores, vectors, tiles, chunks, [&](int row, int column, WarpScores& scores) {
    finish_scores(a, row, column, scale, scores);
    leave_parts<T>(scores, has_columns, parts);
    __syncthreads();
    if (thread >= kTile) {
      if (!has_columns) return;
      const int own = thread - kTile, at = column - tiles.column + own;
      float largest = columns[at], sum = columns[region + at];
      for (int part = own; part < kDown * kTile; part += kTile) {
        add_part(parts.column_largest[part], parts.column_sum[part], largest, sum);
      }
      columns[at] = largest;
      columns[region + at] = sum;
      return;
    }
    for (int part = thread; part < kAcross * kTile; part += kTile) {
      add_part(parts.row_largest[part], parts.row_sum[part], row_largest, row_sum);
    }
    if (column + kTile < tiles.column_end) return;
    const int i = row + thread;
    if (i < n) {
      region_place(a, 0, 0, blockIdx.y)[i] = row_largest;
      region_place(a, 0, 1, blockIdx.y)[i] = row_sum;
    }
    row_largest = kMinusInfinity;
    row_sum = 0;
  });
  if (!has_columns) return;
  __syncthreads();
  for (int e = thread; e < region && tiles.column + e < n; e += kPairThreads) {
    region_place(a, 1, 0, blockIdx.x)[tiles.column + e] = columns[e];
    region_place(a, 1, 1, blockIdx.x)[tiles.column + e] = columns[region + e];
  }
}

/// A thread per row (y = 0) or column (y = 1) adds the regions' sums, in order, in f64.
template <class T>
__global__ void pair_merge_kernel(PairSums<T> a, int regions) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kPairThreads + threadIdx.x, n = a.scores.n;
  if (i >= n) return;
  const float* part = a.workspace + 2 * std::int64_t{blockIdx.y} * regions * n + i;
  float largest = kMinusInfinity;
  double sum = 0;
  for (int region = 0; region < regions; ++region) {
    const float other = part[region * n], other_sum = part[(regions + region) * n];
    if (other_sum == 0) continue;
    const auto reference = static_cast<double>(fmaxf(largest, other));
    if (sum != 0) sum *= exp(static_cast<double>(largest) - reference);
    sum += static_cast<double>(other_sum) * exp(static_cast<double>(other) - reference);
    largest = static_cast<float>(reference);
  }
  (blockIdx.y == 0 ? a.row_largest : a.column_largest)[i] = largest;
  (blockIdx.y == 0 ? a.row_sum : a.column_sum)[i] = sum;
}

template <class T>
void sum_pairs(const PairSums<T>& a) {
  const std::int64_t n = a.scores.n, region = pair_region(n);
  const unsigned regions = blocks_of(n, region);
  launch(pair_sums_kernel<T>,
         {.grid = dim3(regions, regions),
          .block = dim3(kPairThreads),
          .shared_bytes =
              kChunks<T> * sizeof(T) + 2 * static_cast<std::size_t>(region) * sizeof(float)},
         a, static_cast<int>(region), are_vectors(a.scores));
  launch(pair_merge_kernel<T>,
         {.grid = dim3(blocks_of(n, kPairThreads), a.column_largest != nullptr ? 2 : 1),
          .block = dim3(kPairThreads)},
         a, static_cast<int>(regions));
}

const RegisterDevice registered{&sum_pairs<float>, &sum_pairs<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
