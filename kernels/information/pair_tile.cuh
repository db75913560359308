// Tiles of scores over all pairs on tensor cores, for factors of bf16 and of f32: 128 rows of a
// against 128 of b, by the 8 warps of a block.
//
// Factors come to shared memory in chunks of 128 bytes a row, by copies of 16 bytes that run while
// the chunk before is multiplied (kernels/cuda/tensor_tile.cuh). Where rows are no multiple of 16
// bytes, by plain loads.
#pragma once

#include <limits>
#include <type_traits>

#include "kernels/cuda/tensor_tile.cuh"
#include "kernels/information/pairs.h"

namespace cmir::kernels::CMIR_DEVICE {

inline constexpr int kPairThreads = 256;
inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
/// Blocks a multiprocessor: as many as have registers enough. The compiler, left to itself, aims at
/// more for sm_120, and spills.
template <class T>
inline constexpr int kPairBlocks = std::is_same_v<T, BFloat16> ? 2 : 1;
inline constexpr int kTile = static_cast<int>(kPairTile);

template <class T>
using PairFactors =
    std::conditional_t<std::is_same_v<T, BFloat16>, Bf16Factors, Tf32Factors</*kSplit=*/true>>;

/// In bf16 the scores' own rounding hides what __expf is off by.
template <class T>
__device__ float exponential(float x) {
  return std::is_same_v<T, BFloat16> ? __expf(x) : expf(x);
}

// ---- Which scores a thread has. A warp has 64 x 32 of the tile's: 2 x 4 warps.

inline constexpr int kWarpRows = 64, kWarpColumns = 32;
inline constexpr int kRowTiles = kWarpRows / 16, kColumnTiles = kWarpColumns / 8;
inline constexpr int kAcross = kTile / kWarpColumns, kDown = kTile / kWarpRows;
using WarpScores = float[kRowTiles][kColumnTiles][4];

__device__ inline int warp() { return static_cast<int>(threadIdx.x) / 32; }
__device__ inline int warp_row() { return warp() / kAcross * kWarpRows; }
__device__ inline int warp_column() { return warp() % kAcross * kWarpColumns; }
/// Where in the tile the thread's scores are: [m][.][2 half + .] and [.][n][odd + .].
__device__ inline int own_row(int m, int half) {
  return warp_row() + 16 * m + lane_of_warp() / 4 + 8 * half;
}
__device__ inline int own_column(int n, int odd) {
  return warp_column() + 8 * n + lane_of_warp() % 4 * 2 + odd;
}

/// f(std::integral_constant<int, q>) for q = 0 .. kCount - 1: indices that the compiler knows keep
/// an array in registers.
template <int kCount, int q = 0, class F>
__device__ void for_constants(const F& f) {
  f(std::integral_constant<int, q>{});
  if constexpr (q + 1 < kCount) for_constants<kCount, q + 1>(f);
}

/// f(m, n, e) for each of the thread's scores [m][n][e].
template <class F>
__device__ void for_each_score(const F& f) {
  for_constants<kRowTiles * kColumnTiles * 4>([&](auto i) {
    constexpr int m = i / (kColumnTiles * 4), n = i / 4 % kColumnTiles, e = i % 4;
    f(m, n, e);
  });
}

// ---- Chunks

/// Features of a chunk.
template <class T>
inline constexpr int kChunk = 128 / static_cast<int>(sizeof(T));
/// Elements of the two slots of chunks of both factors that for_each_tile works with.
template <class T>
inline constexpr int kChunks = 4 * kTile* kChunk<T>;

/// Where a chunk keeps a row's feature: the 16 bytes u of row r are at u ^ (r % 8), so that no two
/// of the eight rows of an ldmatrix meet in a bank.
template <class T>
__device__ int chunk_place(int row, int feature) {
  constexpr int unit = kVectorSize<T>;
  return row * kChunk<T> + ((feature / unit) ^ (row % 8)) * unit + feature % unit;
}

template <class T>
struct Factor {
  const T* values;  // [n, d]
  int n, d;
  bool vectors;  // rows begin at multiples of 16 bytes

  /// Features of the chunk that begins with feature `depth`, rounded up to the 32 bytes of an mma.
  __device__ int depth_of(int depth) const {
    constexpr int step = 2 * kVectorSize<T>;
    return min((d - depth + step - 1) / step * step, kChunk<T>);
  }
};

/// Starts to copy depth_of(depth) features from `depth` on of kTile rows from `row` on, and zeros
/// where the matrix has none.
template <class T>
__device__ void load_chunk(const SharedPointer<T>& chunk, const Factor<T>& from, int row,
                           int depth) {
  constexpr int unit = kVectorSize<T>;
  const int used = from.depth_of(depth);
  for (int e = static_cast<int>(threadIdx.x); e < kTile * kChunk<T> / unit; e += kPairThreads) {
    const int r = e / (kChunk<T> / unit), k = e % (kChunk<T> / unit) * unit;
    if (k >= used) continue;
    const int left = row + r < from.n ? from.d - depth - k : 0;  // features of the row
    const T* source =
        left > 0 ? from.values + std::int64_t{row + r} * from.d + (depth + k) : from.values;
    if (from.vectors) {
      cp_async_16(chunk + chunk_place<T>(r, k), source, left > 0 ? 16 : 0);
    } else {
      Vector<T, unit> values;
      for (int i = 0; i < unit; ++i) values[i] = i < left ? source[i] : T(0.0F);
      store_vector(chunk + chunk_place<T>(r, k), values);
    }
  }
}

/// scores += the warp's products over `depth` features of two chunks.
template <class T>
__device__ void add_scores(const SharedPointer<T>& a, const SharedPointer<T>& b, int depth,
                           WarpScores& scores) {
  using Factors = PairFactors<T>;
  constexpr int unit = kVectorSize<T>;
  for (int k = 0; k < depth; k += 2 * unit) {
    typename Factors::Right right[kColumnTiles];
    for (int n = 0; n < kColumnTiles; n += 2) {
      unsigned x[4];
      ldmatrix(x, b + chunk_place<T>(
                          warp_column() + 8 * n + lane_of_warp() % 8 + lane_of_warp() / 16 * 8,
                          k + lane_of_warp() / 8 % 2 * unit));
      right[n] = Factors::right(x[0], x[1]);
      right[n + 1] = Factors::right(x[2], x[3]);
    }
    for (int m = 0; m < kRowTiles; ++m) {
      unsigned x[4];
      ldmatrix(x, a + chunk_place<T>(warp_row() + 16 * m + lane_of_warp() % 16,
                                     k + lane_of_warp() / 16 * unit));
      const auto left = Factors::left(x);
      for (int n = 0; n < kColumnTiles; ++n) add_product<Factors>(scores[m][n], left, right[n]);
    }
  }
}

// ---- A block's tiles

/// The tiles of rows row .. row_end and columns column .. column_end, the first of each at a
/// multiple of kTile. (An int holds what n may be: nobody has 2^62 pairs.)
struct TileRange {
  int row, row_end, column, column_end;
};

/// use(row, column, products) with the products of a's rows from `row` on and b's from `column` on,
/// for each tile, row after row of tiles; `chunks` has kChunks<T> elements. All threads call, and
/// all meet between a tile and the next. While a chunk is multiplied the next one, of the next tile
/// too, is on its way.
template <class T, class Use>
__device__ void for_each_tile(const PairScores<T>& s, bool vectors, const TileRange& range,
                              const SharedPointer<T>& chunks, const Use& use) {
  constexpr int size = kTile * kChunk<T>;
  const int n = static_cast<int>(s.n), d = static_cast<int>(s.d);
  const Factor<T> a{s.a, n, d, vectors}, b{s.b, n, d, vectors};
  int next_row = range.row, next_column = range.column, next_depth = 0, slot = 0;
  const auto load_next = [&](int to) {
    if (next_row < range.row_end) {
      load_chunk(chunks + 2 * to * size, a, next_row, next_depth);
      load_chunk(chunks + (2 * to + 1) * size, b, next_column, next_depth);
      next_depth += kChunk<T>;
      if (next_depth >= d) {
        next_depth = 0;
        next_column += kTile;
        if (next_column >= range.column_end) {
          next_column = range.column;
          next_row += kTile;
        }
      }
    }
    cp_async_commit();
  };
  load_next(slot);
  for (int row = range.row; row < range.row_end; row += kTile) {
    for (int column = range.column; column < range.column_end; column += kTile) {
      WarpScores products = {};
      for (int depth = 0; depth < d; depth += kChunk<T>) {
        cp_async_wait_group<0>();
        __syncthreads();  // the chunk is there, and the other slot has been used
        load_next(1 - slot);
        add_scores(chunks + 2 * slot * size, chunks + (2 * slot + 1) * size, a.depth_of(depth),
                   products);
        slot = 1 - slot;
      }
      use(row, column, products);
    }
  }
}

template <class T>
bool are_vectors(const PairScores<T>& s) {
  constexpr int unit = kVectorSize<T>;
  return s.d % unit == 0 && is_vector_aligned<unit>(s.a) && is_vector_aligned<unit>(s.b);
}

inline unsigned blocks_of(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

}  // namespace cmir::kernels::CMIR_DEVICE
