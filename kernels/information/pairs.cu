#include "kernels/information/pairs.cuh"

#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

// A block of 256 threads computes a tile of 64 x 64 scores: thread (x, y) of 16 x 16 has the rows
// 4 y .. 4 y + 3 and the columns x, x + 16, x + 32, x + 48.
constexpr int kTile = static_cast<int>(kPairTile<float>), kThreads = kPairThreads, kDepth = 16,
              kOwn = 4;
constexpr int kStride = kTile + 1;  // no two of a warp's accesses to a column meet in a bank
constexpr int kWarps = kThreads / 32;

__device__ int thread_x() { return static_cast<int>(threadIdx.x) % 16; }
__device__ int thread_y() { return static_cast<int>(threadIdx.x) / 16; }
__device__ int own_row(int r) { return kOwn * thread_y() + r; }
__device__ int own_column(int c) { return thread_x() + 16 * c; }

/// part[k][i] = element depth + k of row `begin` + i of a matrix [n, d], zeros beside it.
__device__ void load_part(SharedPointer<float> part, const float* matrix, std::int64_t begin,
                          std::int64_t n, std::int64_t depth, std::int64_t d) {
  for (int e = static_cast<int>(threadIdx.x); e < kTile * kDepth; e += kThreads) {
    const int i = e / kDepth, k = e % kDepth;
    const bool inside = begin + i < n && depth + k < d;
    part[k * kStride + i] = inside ? matrix[(begin + i) * d + depth + k] : 0.0F;
  }
}

/// products[r][c] = a_row . b_column of the tile at (row, column). All threads must call.
__device__ void tile_products(const float* a, const float* b, std::int64_t n, std::int64_t d,
                              std::int64_t row, std::int64_t column, SharedPointer<float> a_part,
                              SharedPointer<float> b_part, float (&products)[kOwn][kOwn]) {
  for (int r = 0; r < kOwn; ++r) {
    for (int c = 0; c < kOwn; ++c) products[r][c] = 0;
  }
  for (std::int64_t depth = 0; depth < d; depth += kDepth) {
    __syncthreads();  // the last parts have been used
    load_part(a_part, a, row, n, depth, d);
    load_part(b_part, b, column, n, depth, d);
    __syncthreads();
    for (int k = 0; k < kDepth; ++k) {
      float x[kOwn], y[kOwn];
      for (int r = 0; r < kOwn; ++r) x[r] = a_part[k * kStride + own_row(r)];
      for (int c = 0; c < kOwn; ++c) y[c] = b_part[k * kStride + own_column(c)];
      for (int r = 0; r < kOwn; ++r) {
        for (int c = 0; c < kOwn; ++c) products[r][c] += x[r] * y[c];
      }
    }
  }
}

/// Over the 16 threads that share rows.
template <class Operation>
__device__ float reduce_x(float value, const Operation& operation) {
  for (int distance = 8; distance > 0; distance /= 2) {
    value = operation(value, __shfl_xor_sync(0xFFFFFFFF, value, distance));
  }
  return value;
}

/// Running sums of the rows or columns of a block's region, in shared memory.
struct RegionSums {
  SharedPointer<float> largest, sum;
};

/// Each row's sum over the tile, added by one of its threads.
__device__ void add_rows(const float (&scores)[kOwn][kOwn], int first, const RegionSums& rows) {
  for (int r = 0; r < kOwn; ++r) {
    float largest = kMinusInfinity, sum = 0;
    for (int c = 0; c < kOwn; ++c) largest = fmaxf(largest, scores[r][c]);
    largest = reduce_x(largest, Maximum{});
    for (int c = 0; c < kOwn; ++c) sum += expf(scores[r][c] - finite_or_zero(largest));
    sum = reduce_x(sum, Sum{});
    if (thread_x() == 0) {
      float total_largest = rows.largest[first + own_row(r)], total = rows.sum[first + own_row(r)];
      merge(largest, static_cast<double>(sum), total_largest, total);
      rows.largest[first + own_row(r)] = total_largest;
      rows.sum[first + own_row(r)] = total;
    }
  }
}

/// Each column's sum over the tile: over a warp's two rows of threads, then over the warps, whose
/// parts meet in `parts` [kWarps, kTile]. All threads must call.
__device__ void add_columns(const float (&scores)[kOwn][kOwn], int first, const RegionSums& columns,
                            SharedPointer<float> parts) {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const bool writes = threadIdx.x % 32 < 16;
  float largest[kOwn], sums[kOwn] = {};
  for (int c = 0; c < kOwn; ++c) {
    largest[c] = kMinusInfinity;
    for (int r = 0; r < kOwn; ++r) largest[c] = fmaxf(largest[c], scores[r][c]);
    largest[c] = fmaxf(largest[c], __shfl_xor_sync(0xFFFFFFFF, largest[c], 16));
    if (writes) parts[warp * kTile + own_column(c)] = largest[c];
  }
  __syncthreads();
  for (int c = 0; c < kOwn; ++c) {
    for (int w = 0; w < kWarps; ++w) {
      const float other = parts[w * kTile + own_column(c)];
      largest[c] = fmaxf(largest[c], other);
    }
    for (int r = 0; r < kOwn; ++r) sums[c] += expf(scores[r][c] - finite_or_zero(largest[c]));
    sums[c] += __shfl_xor_sync(0xFFFFFFFF, sums[c], 16);
  }
  __syncthreads();
  for (int c = 0; c < kOwn; ++c) {
    if (writes) parts[warp * kTile + own_column(c)] = sums[c];
  }
  __syncthreads();
  if (threadIdx.x >= 16) return;
  for (int c = 0; c < kOwn; ++c) {
    double sum = 0;
    for (int w = 0; w < kWarps; ++w) {
      const float part = parts[w * kTile + own_column(c)];
      sum += static_cast<double>(part);
    }
    float total_largest = columns.largest[first + own_column(c)],
          total = columns.sum[first + own_column(c)];
    merge(largest[c], sum, total_largest, total);
    columns.largest[first + own_column(c)] = total_largest;
    columns.sum[first + own_column(c)] = total;
  }
}

/// Scales the tile's products, leaves the diagonal in a.diagonal, and masks it and what is past the
/// end.
__device__ void finish_scores(const PairSums<float>& a, std::int64_t row, std::int64_t column,
                              float scale, float (&scores)[kOwn][kOwn]) {
  for (int r = 0; r < kOwn; ++r) {
    for (int c = 0; c < kOwn; ++c) {
      const std::int64_t i = row + own_row(r), j = column + own_column(c);
      const bool inside = i < a.scores.n && j < a.scores.n;
      if (inside && i == j) a.diagonal[i] = scale * scores[r][c];
      scores[r][c] = inside && i != j ? scale * scores[r][c] : kMinusInfinity;
    }
  }
}

/// Writes a region's sums of rows or columns begin, begin + 1, ...
__device__ void store_region(const PairSums<float>& a, int of_columns, std::int64_t begin,
                             std::int64_t other_region, int size, const RegionSums& sums) {
  float* largest = region_place(a, of_columns, 0, other_region);
  float* sum = region_place(a, of_columns, 1, other_region);
  for (int e = static_cast<int>(threadIdx.x); e < size && begin + e < a.scores.n; e += kThreads) {
    largest[begin + e] = sums.largest[e];
    sum[begin + e] = sums.sum[e];
  }
}

/// Block (x, y): rows of region x, columns of region y.
// Two blocks a multiprocessor: for sm_120 the compiler otherwise aims at more, and spills.
__global__ void __launch_bounds__(kThreads, 2) pair_sums_kernel(PairSums<float> a, int region) {
  CMIR_DYNAMIC_SHARED(float, buffer);
  CMIR_SHARED(float, a_part, [kDepth * kStride]);
  CMIR_SHARED(float, b_part, [kDepth * kStride]);
  CMIR_SHARED(float, parts, [kWarps * kTile]);
  const RegionSums rows{buffer, buffer + region}, columns{buffer + 2 * region, buffer + 3 * region};
  for (int e = static_cast<int>(threadIdx.x); e < region; e += kThreads) {
    rows.largest[e] = kMinusInfinity;
    rows.sum[e] = 0.0F;
    columns.largest[e] = kMinusInfinity;
    columns.sum[e] = 0.0F;
  }
  const std::int64_t row = std::int64_t{blockIdx.x} * region,
                     column = std::int64_t{blockIdx.y} * region;
  const auto scale = static_cast<float>(a.scores.scale());
  for (int y = 0; y < region && row + y < a.scores.n; y += kTile) {
    for (int x = 0; x < region && column + x < a.scores.n; x += kTile) {
      float scores[kOwn][kOwn];
      tile_products(a.scores.a, a.scores.b, a.scores.n, a.scores.d, row + y, column + x, a_part,
                    b_part, scores);
      finish_scores(a, row + y, column + x, scale, scores);
      add_rows(scores, y, rows);
      if (a.column_largest != nullptr) add_columns(scores, x, columns, parts);
    }
  }
  __syncthreads();
  store_region(a, 0, row, blockIdx.y, region, rows);
  if (a.column_largest != nullptr) store_region(a, 1, column, blockIdx.x, region, columns);
}

__device__ float weighed(const float* weight, const float* shift, std::int64_t i, float score) {
  return weight == nullptr ? 0.0F : weight[i] * expf(score - shift[i]);
}

/// The tile's dS, to `weights` [kTile, kStride].
__device__ void store_weights(const Side<float>& s, std::int64_t row, std::int64_t column,
                              float scale, const float (&products)[kOwn][kOwn],
                              SharedPointer<float> weights) {
  for (int r = 0; r < kOwn; ++r) {
    for (int c = 0; c < kOwn; ++c) {
      const std::int64_t i = row + own_row(r), j = column + own_column(c);
      float weight = 0;
      if (i < s.scores.n && j < s.scores.n) {
        const float score = scale * products[r][c];
        weight = i == j ? s.diagonal_weight[i]
                        : weighed(s.own_weight, s.own_shift, i, score) +
                              weighed(s.other_weight, s.other_shift, j, score);
      }
      weights[own_row(r) * kStride + own_column(c)] = weight;
    }
  }
}

/// sums += dS of the tile times the other factor's rows `begin` .. in columns first +
/// own_column(c).
template <int kColumns>
__device__ void add_product(const Side<float>& s, SharedPointer<float> weights, std::int64_t begin,
                            std::int64_t first, SharedPointer<float> part,
                            float (&sums)[kOwn][kColumns]) {
  const std::int64_t n = s.scores.n, d = s.scores.d;
  for (int from = 0; from < kTile; from += kDepth) {
    __syncthreads();  // the weights are there, and the last part has been used
    for (int e = static_cast<int>(threadIdx.x); e < kDepth * 16 * kColumns; e += kThreads) {
      const std::int64_t j = begin + from + e / (16 * kColumns), k = first + e % (16 * kColumns);
      part[e] = j < n && k < d ? s.other[j * d + k] : 0.0F;
    }
    __syncthreads();
    for (int j = 0; j < kDepth; ++j) {
      float w[kOwn];
      for (int r = 0; r < kOwn; ++r) w[r] = weights[own_row(r) * kStride + from + j];
      for (int c = 0; c < kColumns; ++c) {
        const float value = part[j * 16 * kColumns + own_column(c)];
        for (int r = 0; r < kOwn; ++r) sums[r][c] += w[r] * value;
      }
    }
  }
}

/// Block (x, y): 64 rows of the gradient, its columns 16 kColumns y and on.
template <int kColumns>
__global__ void __launch_bounds__(kThreads) pair_gradient_kernel(Side<float> s) {
  CMIR_SHARED(float, a_part, [kDepth * kStride]);
  CMIR_SHARED(float, b_part, [kDepth * kStride]);
  CMIR_SHARED(float, weights, [kTile * kStride]);
  CMIR_SHARED(float, part, [kDepth * 16 * kColumns]);
  const std::int64_t n = s.scores.n, d = s.scores.d, row = std::int64_t{blockIdx.x} * kTile;
  const std::int64_t first = std::int64_t{blockIdx.y} * 16 * kColumns;
  const auto scale = static_cast<float>(s.scores.scale());
  float sums[kOwn][kColumns] = {};
  for (std::int64_t column = 0; column < n; column += kTile) {
    float products[kOwn][kOwn];
    tile_products(s.own, s.other, n, d, row, column, a_part, b_part, products);
    store_weights(s, row, column, scale, products, weights);
    add_product(s, weights, column, first, part, sums);
  }
  for (int r = 0; r < kOwn; ++r) {
    const std::int64_t i = row + own_row(r);
    for (int c = 0; c < kColumns; ++c) {
      const std::int64_t k = first + own_column(c);
      if (i < n && k < d) s.out[i * d + k] = scale * sums[r][c];
    }
  }
}

void sum_pairs(const PairSums<float>& a) {
  const std::int64_t n = a.scores.n, region = pair_region<float>(n);
  const unsigned regions = blocks_of(n, region);
  launch(pair_sums_kernel,
         {.grid = dim3(regions, regions),
          .block = dim3(kThreads),
          .shared_bytes = 4 * static_cast<std::size_t>(region) * sizeof(float)},
         a, static_cast<int>(region));
  merge_regions(a, regions);
}

void launch_side(const Side<float>& s) {
  if (s.out == nullptr) return;
  const std::int64_t d = s.scores.d;
  const auto with = [&](auto kernel, std::int64_t columns) {
    launch(kernel,
           {.grid = dim3(blocks_of(s.scores.n, kTile), blocks_of(d, columns)),
            .block = dim3(kThreads)},
           s);
  };
  if (d <= 64) {
    with(&pair_gradient_kernel<4>, 64);
  } else {
    with(&pair_gradient_kernel<16>, 256);
  }
}

void differentiate(const PairGradient<float>& g) {
  launch_side(Side<float>::of(g, true));
  launch_side(Side<float>::of(g, false));
}

const RegisterDevice registered{&sum_pairs, &differentiate};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
