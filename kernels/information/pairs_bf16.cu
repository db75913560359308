#include <type_traits>

#include "kernels/cuda/ptx.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/information/pairs.cuh"

// The bf16 form of pairs.cu: products by the tensor cores, m16n8k16, whose layouts
// kernels/cuda/ptx.h has. group = lane / 4 and pair = lane % 4 are its names.
//
// Factors come to shared memory in chunks of 64 features, 128 bytes a row, by copies of 16 bytes
// that run while the chunk before is multiplied. Where rows are no multiple of 16 bytes, by plain
// loads.
namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr int kThreads = kPairThreads;
constexpr int kTile = static_cast<int>(kPairTile<BFloat16>);
constexpr int kChunk = 64;

__device__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
__device__ int warp() { return static_cast<int>(threadIdx.x) / 32; }

/// f(std::integral_constant<int, q>) for q = 0 .. kCount - 1: indices that the compiler knows keep
/// an array in registers.
template <int kCount, int q = 0, class F>
__device__ void for_constants(const F& f) {
  f(std::integral_constant<int, q>{});
  if constexpr (q + 1 < kCount) for_constants<kCount, q + 1>(f);
}

/// Where a chunk keeps a row's feature: the 16 bytes u of row r are at u ^ (r % 8), so that no two
/// of the eight rows of an ldmatrix meet in a bank.
__device__ int chunk_place(int row, int feature) {
  return row * kChunk + ((feature / 8) ^ (row % 8)) * 8 + feature % 8;
}

struct Factor {
  const BFloat16* values;  // [n, d]
  std::int64_t n, d;
  bool vectors;  // rows begin at multiples of 16 bytes

  /// Features of the chunk that begins with feature `depth`, rounded up to m16n8k16's 16; <= 0 past
  /// the end.
  __device__ int depth_of(std::int64_t depth) const {
    return static_cast<int>(min((d - depth + 15) / 16 * 16, std::int64_t{kChunk}));
  }
};

/// Starts to copy depth_of(depth) features from `depth` on of kRows rows from `row` on, and zeros
/// where the matrix has none.
template <int kRows>
__device__ void load_chunk(const SharedPointer<BFloat16>& chunk, const Factor& from,
                           std::int64_t row, std::int64_t depth) {
  const int used = from.depth_of(depth);
  for (int e = static_cast<int>(threadIdx.x); e < kRows * kChunk / 8; e += kThreads) {
    const int r = e / (kChunk / 8), k = e % (kChunk / 8) * 8;
    if (k >= used) continue;
    const std::int64_t left = row + r < from.n ? from.d - depth - k : 0;  // features of the row
    const BFloat16* source = left > 0 ? from.values + (row + r) * from.d + depth + k : from.values;
    if (from.vectors) {
      cp_async_16(chunk + chunk_place(r, k), source, left > 0 ? 16 : 0);
    } else {
      Vector<BFloat16, 8> values;
      for (int i = 0; i < 8; ++i) values[i] = i < left ? source[i] : BFloat16(0.0F);
      store_vector(chunk + chunk_place(r, k), values);
    }
  }
}

/// sums[m][n] += the products of rows own_row + 16 m and on with rows other_row + 8 n and on, over
/// `depth` features of two chunks.
template <int kRowTiles, int kColumnTiles>
__device__ void add_scores(const SharedPointer<BFloat16>& own, int own_row,
                           const SharedPointer<BFloat16>& other, int other_row, int depth,
                           float (&sums)[kRowTiles][kColumnTiles][4]) {
  for (int k = 0; k < depth; k += 16) {
    unsigned a[kRowTiles][4];
    for (int m = 0; m < kRowTiles; ++m) {
      ldmatrix(a[m], own + chunk_place(own_row + 16 * m + lane() % 16, k + lane() / 16 * 8));
    }
    for (int n = 0; n < kColumnTiles; n += 2) {
      unsigned b[4];
      ldmatrix(b, other + chunk_place(other_row + 8 * n + lane() % 8 + lane() / 16 * 8,
                                      k + lane() / 8 % 2 * 8));
      const unsigned left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
      for (int m = 0; m < kRowTiles; ++m) {
        mma_m16n8k16_bf16(sums[m][n], a[m], left);
        mma_m16n8k16_bf16(sums[m][n + 1], a[m], right);
      }
    }
  }
}

// ---- The sums. A warp has 64 x 32 scores of a block's tile: 2 x 4 warps.

constexpr int kWarpRows = 64, kWarpColumns = 32;
constexpr int kRowTiles = kWarpRows / 16, kColumnTiles = kWarpColumns / 8;
constexpr int kAcross = kTile / kWarpColumns, kDown = kTile / kWarpRows;
using WarpScores = float[kRowTiles][kColumnTiles][4];

__device__ int warp_row() { return warp() / kAcross * kWarpRows; }
__device__ int warp_column() { return warp() % kAcross * kWarpColumns; }
/// Where in the tile the thread's elements are: [m][.][2 half + .] and [.][n][odd + .].
__device__ int own_row(int m, int half) { return warp_row() + 16 * m + lane() / 4 + 8 * half; }
__device__ int own_column(int n, int odd) { return warp_column() + 8 * n + lane() % 4 * 2 + odd; }

/// f(m, n, e) for each of the thread's scores [m][n][e].
template <class F>
__device__ void for_each_score(const F& f) {
  for_constants<kRowTiles * kColumnTiles * 4>([&](auto i) {
    constexpr int m = i / (kColumnTiles * 4), n = i / 4 % kColumnTiles, e = i % 4;
    f(m, n, e);
  });
}

/// Scales the tile's products, leaves the diagonal in a.diagonal, and masks it and what is past the
/// end.
__device__ void finish_scores(const PairSums<BFloat16>& a, std::int64_t row, std::int64_t column,
                              float scale, WarpScores& scores) {
  const auto inside = [&](std::int64_t begin) {
    return static_cast<int>(min(a.scores.n - begin, std::int64_t{kTile}));
  };
  const int rows = inside(row), columns = inside(column);
  const bool diagonal = row == column;
  for_each_score([&](int m, int n, int e) { scores[m][n][e] *= scale; });
  if (!diagonal && rows == kTile && columns == kTile) return;
  for_each_score([&](int m, int n, int e) {
    const int i = own_row(m, e / 2), j = own_column(n, e % 2);
    if (diagonal && i == j && i < rows) a.diagonal[row + i] = scores[m][n][e];
    if (i >= rows || j >= columns || (diagonal && i == j)) scores[m][n][e] = kMinusInfinity;
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
template <int kCount, int kFirst, int kLast, class F>
__device__ void leave_part(float shared, bool writes, int place,
                           const SharedPointer<float>& largest_part,
                           const SharedPointer<float>& sum_part, const F& f) {
  float largest = shared, sum = 0;
  if (isnan(shared)) {
    largest = kMinusInfinity;
    for (int i = 0; i < kCount; ++i) largest = fmaxf(largest, f(i));
    largest = reduce_lanes<kFirst, kLast>(largest, Maximum{});
    for (int i = 0; i < kCount; ++i) sum += __expf(f(i) - finite_or_zero(largest));
  } else {
    for (int i = 0; i < kCount; ++i) sum += f(i);
  }
  sum = reduce_lanes<kFirst, kLast>(sum, Sum{});
  if (!writes) return;
  largest_part[place] = largest;
  sum_part[place] = sum;
}

/// The warp's part of each row and column of the tile.
__device__ void leave_parts(WarpScores& scores, bool columns, const Parts& parts) {
  const float shared = shared_reference(scores);
  if (!isnan(shared)) {
    for_each_score([&](int m, int n, int e) {
      float& score = scores[m][n][e];
      score = __expf(score - shared);
    });
  }
  for_constants<2 * kRowTiles>([&](auto r) {
    constexpr int m = r / 2, half = r % 2;
    leave_part<2 * kColumnTiles, 1, 2>(
        shared, lane() % 4 == 0, warp() % kAcross * kTile + own_row(m, half), parts.row_largest,
        parts.row_sum, [&](int i) { return scores[m][i / 2][2 * half + i % 2]; });
  });
  if (!columns) return;
  for_constants<2 * kColumnTiles>([&](auto c) {
    constexpr int n = c / 2, odd = c % 2;
    leave_part<2 * kRowTiles, 4, 16>(shared, lane() / 4 == 0,
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

/// A chunk of a block's region: of the tile (y, x) of its tiles. In the order of the kernel's
/// loops.
struct Step {
  int y = 0, x = 0;
  std::int64_t depth = 0;

  __device__ void advance(int columns, std::int64_t d) {
    depth += kChunk;
    if (depth < d) return;
    depth = 0;
    if (++x < columns) return;
    x = 0;
    ++y;
  }
};

/// Block (x, y): rows of region x, columns of region y. Thread t keeps the running sums of row t of
/// the tile, or of column t - kTile in shared memory.
__global__ void __launch_bounds__(kThreads, 2)
    pair_sums_bf16_kernel(PairSums<BFloat16> a, int region, bool vectors) {
  CMIR_DYNAMIC_SHARED(BFloat16, chunks);  // [2 slots][a, b][kTile, kChunk], columns [2][region]
  CMIR_SHARED(float, row_parts, [2 * kAcross * kTile]);
  CMIR_SHARED(float, column_parts, [2 * kDown * kTile]);
  const Parts parts{row_parts, row_parts + kAcross * kTile, column_parts,
                    column_parts + kDown * kTile};
  constexpr int kSize = kTile * kChunk;
  const auto columns = shared_cast<float>(chunks + 4 * kSize);
  const int thread = static_cast<int>(threadIdx.x);
  for (int e = thread; e < 2 * region; e += kThreads) {
    columns[e] = e < region ? kMinusInfinity : 0.0F;
  }

  const std::int64_t n = a.scores.n, d = a.scores.d;
  const Factor of_a{a.scores.a, n, d, vectors}, of_b{a.scores.b, n, d, vectors};
  const std::int64_t row = std::int64_t{blockIdx.x} * region,
                     column = std::int64_t{blockIdx.y} * region;
  const auto tiles = [&](std::int64_t begin) {
    return static_cast<int>((min(std::int64_t{region}, n - begin) + kTile - 1) / kTile);
  };
  const int down = tiles(row), across = tiles(column);
  const auto scale = static_cast<float>(a.scores.scale());
  const bool has_columns = a.column_largest != nullptr;

  Step next;
  int slot = 0;
  const auto load_next = [&](int to) {
    if (next.y < down) {
      load_chunk<kTile>(chunks + 2 * to * kSize, of_a, row + next.y * kTile, next.depth);
      load_chunk<kTile>(chunks + (2 * to + 1) * kSize, of_b, column + next.x * kTile, next.depth);
      next.advance(across, d);
    }
    cp_async_commit();
  };
  load_next(slot);
  for (int y = 0; y < down; ++y) {
    float row_largest = kMinusInfinity, row_sum = 0;
    for (int x = 0; x < across; ++x) {
      WarpScores scores = {};
      for (std::int64_t depth = 0; depth < d; depth += kChunk) {
        cp_async_wait_group<0>();
        __syncthreads();  // the chunk is there; the other slot and the last parts have been used
        load_next(1 - slot);
        add_scores(chunks + 2 * slot * kSize, warp_row(), chunks + (2 * slot + 1) * kSize,
                   warp_column(), of_a.depth_of(depth), scores);
        slot = 1 - slot;
      }
      finish_scores(a, row + y * kTile, column + x * kTile, scale, scores);
      leave_parts(scores, has_columns, parts);
      __syncthreads();
      if (thread < kTile) {
        for (int part = thread; part < kAcross * kTile; part += kTile) {
          add_part(parts.row_largest[part], parts.row_sum[part], row_largest, row_sum);
        }
      } else if (has_columns) {
        const int own = thread - kTile, at = x * kTile + own;
        float largest = columns[at], sum = columns[region + at];
        for (int part = own; part < kDown * kTile; part += kTile) {
          add_part(parts.column_largest[part], parts.column_sum[part], largest, sum);
        }
        columns[at] = largest;
        columns[region + at] = sum;
      }
    }
    const std::int64_t i = row + y * kTile + thread;
    if (thread < kTile && i < n) {
      region_place(a, 0, 0, blockIdx.y)[i] = row_largest;
      region_place(a, 0, 1, blockIdx.y)[i] = row_sum;
    }
  }
  if (!has_columns) return;
  __syncthreads();
  for (int e = thread; e < region && column + e < n; e += kThreads) {
    region_place(a, 1, 0, blockIdx.x)[column + e] = columns[e];
    region_place(a, 1, 1, blockIdx.x)[column + e] = columns[region + e];
  }
}

// ---- The gradient. A warp has 16 of a block's 128 own rows, and their scores with 64 others: dS
// goes from the registers of the one product's result to those of the next one's factor.

constexpr int kOther = 64;
constexpr int kOtherTiles = kOther / 8;

/// dS of a warp's scores, as the factor [16, 64] of the next products.
using Weights = unsigned[kOther / 16][4];

/// Weight and shift of one of the thread's two rows. Where there is none: 0 exp(-inf).
constexpr float kNoWeight = 0, kNoShift = std::numeric_limits<float>::infinity();
struct OwnRow {
  float weight, shift;
};

/// Where a tile of scores lies about the end of the matrix and its diagonal: rows and columns that
/// are inside, and the column of the diagonal in row 0.
struct Place {
  int rows, columns, diagonal;

  __device__ Place(std::int64_t n, std::int64_t row, std::int64_t column)
      : rows(static_cast<int>(min(n - row, std::int64_t{kTile}))),
        columns(static_cast<int>(min(n - column, std::int64_t{kOther}))),
        diagonal(
            static_cast<int>(max(min(row - column, std::int64_t{kOther}), -std::int64_t{kTile}))) {}
  __device__ bool is_plain() const {
    return rows == kTile && columns == kOther && (diagonal >= kOther || diagonal <= -kTile);
  }
};

/// The thread's scores become dS; weights and shifts of its columns are in shared memory.
__device__ void weigh(const Side<BFloat16>& s, const OwnRow (&rows)[2], std::int64_t column,
                      float scale, const Place& place, const SharedPointer<float>& other_weight,
                      const SharedPointer<float>& other_shift, float (&scores)[1][kOtherTiles][4]) {
  for (int n = 0; n < kOtherTiles; ++n) {
    for (int odd = 0; odd < 2; ++odd) {
      const int c = 8 * n + lane() % 4 * 2 + odd;
      const float of_column = other_weight[c], shift = other_shift[c];
      for (int half = 0; half < 2; ++half) {
        float& score = scores[0][n][2 * half + odd];
        score *= scale;
        score = rows[half].weight * __expf(score - rows[half].shift) +
                of_column * __expf(score - shift);
      }
    }
  }
  if (place.is_plain()) return;
  for (int n = 0; n < kOtherTiles; ++n) {
    for (int e = 0; e < 4; ++e) {
      const int r = warp() * 16 + lane() / 4 + e / 2 * 8, c = 8 * n + lane() % 4 * 2 + e % 2;
      if (r >= place.rows || c >= place.columns) {
        scores[0][n][e] = 0;
      } else if (c == r + place.diagonal) {
        scores[0][n][e] = s.diagonal_weight[column + c];
      }
    }
  }
}

/// Rounded: the result's layout is the one of a factor.
__device__ void pack(const float (&scores)[1][kOtherTiles][4], Weights& weights) {
  for (int n = 0; n < kOtherTiles; ++n) {
    for (int half = 0; half < 2; ++half) {
      weights[n / 2][n % 2 * 2 + half] =
          pack_bf16(scores[0][n][2 * half], scores[0][n][2 * half + 1]);
    }
  }
}

/// sums += dS times `depth` features of the others' chunk, the features of sums kFirst and on.
template <int kFirst, int kCount>
__device__ void add_products(const Weights& weights, const SharedPointer<BFloat16>& other,
                             int depth, float (&sums)[kCount][4]) {
  for (int j = 0; j < kOther / 16; ++j) {
    for (int k = 0; k < kChunk; k += 16) {
      if (k >= depth) continue;
      unsigned b[4];
      ldmatrix_trans(b, other + chunk_place(16 * j + lane() % 16, k + lane() / 16 * 8));
      const unsigned left[2] = {b[0], b[1]}, right[2] = {b[2], b[3]};
      mma_m16n8k16_bf16(sums[kFirst + k / 8], weights[j], left);
      mma_m16n8k16_bf16(sums[kFirst + k / 8 + 1], weights[j], right);
    }
  }
}

/// out = scale sums, of rows `row` + group and + 8, features `first` and on.
template <int kCount>
__device__ void store_gradient(const Side<BFloat16>& s, std::int64_t row, std::int64_t first,
                               float scale, const float (&sums)[kCount][4]) {
  const std::int64_t n = s.scores.n, d = s.scores.d;
  const bool pairs = d % 2 == 0 && is_vector_aligned<2>(s.out);
  for (int t = 0; t < kCount; ++t) {
    for (int half = 0; half < 2; ++half) {
      const std::int64_t i = row + lane() / 4 + 8 * half, k = first + 8 * t + lane() % 4 * 2;
      if (i >= n || k >= d) continue;
      const Vector<float, 2> values{scale * sums[t][2 * half], scale * sums[t][2 * half + 1]};
      float* to = s.out + i * d + k;
      if (pairs) {
        store_vector(to, values);
      } else {
        to[0] = values[0];
        if (k + 1 < d) to[1] = values[1];
      }
    }
  }
}

/// Block (x, y, z): 128 rows of da (z = 0, where it is wanted) or db, its columns kColumns y and
/// on. Factors come in parts of kColumns features, that of the block's columns last, since it is
/// the others' factor of the next products too. A chunk is fetched as soon as its place is free:
/// with one group of copies a chunk, and one (of none) a chunk multiplied, all but the newest
/// kChunks - 1 groups have come when a chunk's has.
template <int kColumns>
__global__ void __launch_bounds__(kThreads)
    pair_gradient_bf16_kernel(PairGradient<BFloat16> g, bool vectors) {
  constexpr int kChunks = kColumns / kChunk;
  CMIR_DYNAMIC_SHARED(BFloat16, own);  // [kChunks][kTile, kChunk], others [kChunks][kOther, kChunk]
  CMIR_SHARED(float, other_weight, [kOther]);
  CMIR_SHARED(float, other_shift, [kOther]);
  const SharedPointer<BFloat16> other = own + kColumns * kTile;
  const auto s = Side<BFloat16>::of(g, g.da != nullptr && blockIdx.z == 0);
  const std::int64_t n = s.scores.n, d = s.scores.d, row = std::int64_t{blockIdx.x} * kTile;
  const Factor of_own{s.own, n, d, vectors}, of_other{s.other, n, d, vectors};
  const auto parts = static_cast<unsigned>((d + kColumns - 1) / kColumns);
  const auto depth_at = [&](unsigned part, int q) {
    return std::int64_t{(blockIdx.y + 1 + part) % parts} * kColumns + q * kChunk;
  };
  const auto load = [&](std::int64_t column, unsigned part, int q) {
    const std::int64_t depth = depth_at(part, q);
    if (column < n && depth < d) {
      load_chunk<kOther>(other + q * kOther * kChunk, of_other, column, depth);
      if (parts > 1 || column == 0) load_chunk<kTile>(own + q * kTile * kChunk, of_own, row, depth);
    }
    const std::int64_t j = column + threadIdx.x;
    if (part == 0 && q == 0 && s.other_weight != nullptr && threadIdx.x < kOther && column < n) {
      const std::int64_t from = j < n ? j : 0;
      cp_async_4(&other_weight[threadIdx.x], s.other_weight + from, j < n ? 4 : 0);
      cp_async_4(&other_shift[threadIdx.x], s.other_shift + from, j < n ? 4 : 0);
    }
    cp_async_commit();
  };
  const auto scale = static_cast<float>(s.scores.scale());
  OwnRow rows[2];
  for (int half = 0; half < 2; ++half) {
    const std::int64_t i = row + warp() * 16 + lane() / 4 + 8 * half;
    const bool read = s.own_weight != nullptr && i < n;
    rows[half] = {read ? s.own_weight[i] : kNoWeight, read ? s.own_shift[i] : kNoShift};
  }

  if (s.other_weight == nullptr && threadIdx.x < kOther) {
    other_weight[threadIdx.x] = kNoWeight;
    other_shift[threadIdx.x] = kNoShift;
  }
  float sums[kColumns / 8][4] = {};
  for (int q = 0; q < kChunks; ++q) load(0, 0, q);
  for (std::int64_t column = 0; column < n; column += kOther) {
    float scores[1][kOtherTiles][4] = {};
    for (unsigned part = 0; part < parts; ++part) {
      for (int q = 0; q < kChunks; ++q) {
        cp_async_wait_group<kChunks - 1>();
        __syncthreads();
        add_scores(own + q * kTile * kChunk, warp() * 16, other + q * kOther * kChunk, 0,
                   of_own.depth_of(depth_at(part, q)), scores);
        if (part + 1 < parts) {
          __syncthreads();
          load(column, part + 1, q);
        } else {
          cp_async_commit();
        }
      }
    }
    weigh(s, rows, column, scale, Place(n, row, column), other_weight, other_shift, scores);
    Weights weights;
    pack(scores, weights);
    for_constants<kChunks>([&](auto q) {
      add_products<q * kChunk / 8>(weights, other + q * kOther * kChunk,
                                   of_own.depth_of(depth_at(parts - 1, q)), sums);
      __syncthreads();
      load(column + kOther, 0, q);
    });
  }
  store_gradient(s, row + warp() * 16, std::int64_t{blockIdx.y} * kColumns, scale, sums);
}

bool are_vectors(const PairScores<BFloat16>& s) {
  return s.d % 8 == 0 && is_vector_aligned<8>(s.a) && is_vector_aligned<8>(s.b);
}

void sum_pairs(const PairSums<BFloat16>& a) {
  const std::int64_t region = pair_region<BFloat16>(a.scores.n);
  const unsigned regions = blocks_of(a.scores.n, region);
  launch(pair_sums_bf16_kernel,
         {.grid = dim3(regions, regions),
          .block = dim3(kThreads),
          .shared_bytes = 4 * kTile * kChunk * sizeof(BFloat16) +
                          2 * static_cast<std::size_t>(region) * sizeof(float)},
         a, static_cast<int>(region), are_vectors(a.scores));
  merge_regions(a, regions);
}

template <int kColumns>
void differentiate_by(const PairGradient<BFloat16>& g) {
  const unsigned sides = (g.da != nullptr ? 1 : 0) + (g.db != nullptr ? 1 : 0);
  if (sides == 0) return;
  launch(pair_gradient_bf16_kernel<kColumns>,
         {.grid = dim3(blocks_of(g.scores.n, kTile), blocks_of(g.scores.d, kColumns), sides),
          .block = dim3(kThreads),
          .shared_bytes = kColumns * (kTile + kOther) * sizeof(BFloat16)},
         g, are_vectors(g.scores));
}

void differentiate(const PairGradient<BFloat16>& g) {
  if (g.scores.d <= 64) return differentiate_by<64>(g);
  if (g.scores.d <= 128) return differentiate_by<128>(g);
  differentiate_by<256>(g);
}

const RegisterDevice registered{&sum_pairs, &differentiate};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
