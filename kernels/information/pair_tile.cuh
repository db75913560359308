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
inline constexpr int kTile = static_cast<int>(kPairTile);

/// In bf16 the scores' own rounding hides what the approximation is off by.
template <class T>
__device__ float exponential(float x) {
  return std::is_same_v<T, BFloat16> ? exp2_approximate(1.44269504F * x) : expf(x);
}

/// f(std::integral_constant<int, q>) for q = 0 .. kCount - 1: indices that the compiler knows keep
/// an array in registers.
template <int kCount, int q = 0, class F>
__device__ void for_constants(const F& f) {
  f(std::integral_constant<int, q>{});
  if constexpr (q + 1 < kCount) for_constants<kCount, q + 1>(f);
}

/// Which scores of a tile a thread has: those of its warp, kRows x kColumns, in the layout of
/// products' results.
template <int kRows, int kColumns>
struct PairLayout {
  static constexpr int kWarpRows = kRows, kWarpColumns = kColumns;
  static constexpr int kRowTiles = kRows / 16, kColumnTiles = kColumns / 8;
  static constexpr int kAcross = kTile / kColumns, kDown = kTile / kRows;  ///< warps
  using Scores = float[kRowTiles][kColumnTiles][4];

  static __device__ int warp() { return static_cast<int>(threadIdx.x) / 32; }
  static __device__ int warp_row() { return warp() / kAcross * kRows; }
  static __device__ int warp_column() { return warp() % kAcross * kColumns; }
  /// Where in the tile the thread's scores are: [m][.][2 half + .] and [.][n][odd + .].
  static __device__ int own_row(int m, int half) {
    return warp_row() + 16 * m + lane_of_warp() / 4 + 8 * half;
  }
  static __device__ int own_column(int n, int odd) {
    return warp_column() + 8 * n + lane_of_warp() % 4 * 2 + odd;
  }
  /// f(m, n, e) for each of the thread's scores [m][n][e].
  template <class F>
  static __device__ void for_each_score(const F& f) {
    for_constants<kRowTiles * kColumnTiles * 4>([&](auto i) {
      constexpr int m = i / (kColumnTiles * 4), n = i / 4 % kColumnTiles, e = i % 4;
      f(m, n, e);
    });
  }
};

/// The tiles of rows row .. row_end and columns column .. column_end, the first of each at a
/// multiple of kTile. (An int holds what n may be: nobody has 2^62 pairs.)
struct TileRange {
  int row, row_end, column, column_end;
};

// ---- Chunks: rows of 128 bytes in shared memory

/// Features of a chunk's row.
template <class T>
inline constexpr int kChunk = 128 / static_cast<int>(sizeof(T));

/// Where a chunk keeps a row's feature: no two of the eight rows of an ldmatrix have the same 16
/// bytes in a bank, nor two of four rows that follow one another with the 16 bytes beside.
template <class T>
__device__ int chunk_place(int row, int feature) {
  constexpr int unit = kVectorSize<T>;
  const int turned = row % 4 * 2 + row / 4 % 2;
  return row * kChunk<T> + ((feature / unit) ^ turned) * unit + feature % unit;
}

/// A matrix that chunks are copied from.
template <class T>
struct Factor {
  const T* values;  // [n, d]
  int n, d;
  std::int64_t stride;  ///< elements between rows
  bool vectors;         ///< rows begin at multiples of 16 bytes

  /// Features of the chunk that begins with feature `depth`, rounded up to the 32 bytes of an mma.
  __device__ int depth_of(int depth) const {
    constexpr int step = 2 * kVectorSize<T>;
    return min((d - depth + step - 1) / step * step, kChunk<T>);
  }
};
template <class T>
bool are_vectors(const T* values, std::int64_t stride) {
  constexpr int unit = kVectorSize<T>;
  return stride % unit == 0 && is_vector_aligned<unit>(values);
}

/// Starts to copy `used` features from `depth` on of kRows rows from `row` on, and zeros where the
/// matrix has none.
template <int kRows, class T>
__device__ void load_chunk(const SharedPointer<T>& chunk, const Factor<T>& from, int row, int depth,
                           int used) {
  constexpr int unit = kVectorSize<T>, units = kChunk<T> / unit;
  for (int e = static_cast<int>(threadIdx.x); e < kRows * units; e += kPairThreads) {
    const int r = e / units, k = e % units * unit;
    if (k >= used) continue;
    const int left = row + r < from.n ? from.d - depth - k : 0;  // features of the row
    const T* source = left > 0 ? from.values + (row + r) * from.stride + (depth + k) : from.values;
    const auto place = chunk + chunk_place<T>(r, k);
    if (from.vectors) {
      cp_async_16(place, source, left > 0 ? 16 : 0);
    } else {
      Vector<T, unit> values;
      for (int i = 0; i < unit; ++i) values[i] = i < left ? source[i] : T(0.0F);
      store_vector(place, values);
    }
  }
}

template <class T>
using MmaFactors =
    std::conditional_t<std::is_same_v<T, BFloat16>, Bf16Factors, Tf32Factors</*kSplit=*/true>>;
/// Blocks a multiprocessor: as many as have registers enough. The compiler, left to itself, aims at
/// more for sm_120, and spills.
template <class T>
inline constexpr int kMmaBlocks = std::is_same_v<T, BFloat16> ? 2 : 1;

/// The left factor of rows row .. row + 15 of a chunk and the mma's depth from k on.
template <class T>
__device__ typename MmaFactors<T>::Left left_of_chunk(const SharedPointer<T>& chunk, int row,
                                                      int k) {
  unsigned x[4];
  ldmatrix(x, chunk + chunk_place<T>(row + lane_of_warp() % 16,
                                     k + lane_of_warp() / 16 * kVectorSize<T>));
  return MmaFactors<T>::left(x);
}

/// A block's tiles by mma.sync, with chunks of both factors in two slots.
template <class T>
class MmaTiles : public PairLayout<64, 32> {
 public:
  using Element = T;
  static constexpr bool kHere = true;  ///< whether the architecture that is compiled for has it
  static constexpr int kBlocks = kMmaBlocks<T>;
  /// What the host says of the factors.
  struct Source {
    bool vectors;
  };
  static Source source_of(const PairScores<T>& s) {
    return {are_vectors(s.a, s.d) && are_vectors(s.b, s.d)};
  }
  static std::size_t shared_bytes(const PairScores<T>&) { return 4 * kSlotSize * sizeof(T); }

  __device__ MmaTiles(const PairScores<T>& s, const Source& source, const SharedPointer<T>& memory)
      : chunks_(memory),
        a_{s.a, static_cast<int>(s.n), static_cast<int>(s.d), s.d, source.vectors},
        b_{s.b, static_cast<int>(s.n), static_cast<int>(s.d), s.d, source.vectors} {}

  /// use(row, column, products) with the products of a's rows from `row` on and b's from `column`
  /// on, for each tile, row after row of tiles. All threads call, and all meet between a tile and
  /// the next. While a chunk is multiplied the next one, of the next tile too, is on its way.
  template <class Use>
  __device__ void for_each(const TileRange& range, const Use& use) const {
    int next_row = range.row, next_column = range.column, next_depth = 0, slot = 0;
    const auto load_next = [&](int to) {
      if (next_row < range.row_end) {
        const int used = a_.depth_of(next_depth);
        load_chunk<kTile>(chunks_ + 2 * to * kSlotSize, a_, next_row, next_depth, used);
        load_chunk<kTile>(chunks_ + (2 * to + 1) * kSlotSize, b_, next_column, next_depth, used);
        next_depth += kChunk<T>;
        if (next_depth >= a_.d) {
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
        Scores products = {};
        for (int depth = 0; depth < a_.d; depth += kChunk<T>) {
          cp_async_wait_group<0>();
          __syncthreads();  // the chunk is there, and the other slot has been used
          load_next(1 - slot);
          add(chunks_ + 2 * slot * kSlotSize, chunks_ + (2 * slot + 1) * kSlotSize,
              a_.depth_of(depth), products);
          slot = 1 - slot;
        }
        use(row, column, products);
      }
    }
  }

 private:
  static constexpr int kSlotSize = kTile * kChunk<T>;

  /// scores += the warp's products over `depth` features of two chunks.
  static __device__ void add(const SharedPointer<T>& a, const SharedPointer<T>& b, int depth,
                             Scores& scores) {
    using Factors = MmaFactors<T>;
    constexpr int unit = kVectorSize<T>;
    const int lane = lane_of_warp();
    for (int k = 0; k < depth; k += 2 * unit) {
      typename Factors::Right right[kColumnTiles];
      for (int n = 0; n < kColumnTiles; n += 2) {
        unsigned x[4];
        ldmatrix(x, b + chunk_place<T>(warp_column() + 8 * n + lane % 8 + lane / 16 * 8,
                                       k + lane / 8 % 2 * unit));
        right[n] = Factors::right(x[0], x[1]);
        right[n + 1] = Factors::right(x[2], x[3]);
      }
      for (int m = 0; m < kRowTiles; ++m) {
        const auto left = left_of_chunk(a, warp_row() + 16 * m, k);
        for (int n = 0; n < kColumnTiles; ++n) add_product<Factors>(scores[m][n], left, right[n]);
      }
    }
  }

  SharedPointer<T> chunks_;
  Factor<T> a_, b_;
};

inline unsigned blocks_of(std::int64_t count, std::int64_t per_block) {
  return static_cast<unsigned>((count + per_block - 1) / per_block);
}

}  // namespace cmir::kernels::CMIR_DEVICE
