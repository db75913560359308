#include "kernels/information/pair_block.h"

#include "kernels/information/pair_tile.cuh"

// A CUDA block has 128 rows and 128 features of da or of db. A step's depth is that of a chunk
// (pair_tile.cuh). W comes in one chunk of 128 rows, its transpose and the right factor in panels:
// chunks side by side, of as many rows as the depth.
namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <class T>
using Products = PairProducts<Factor<T>, Factor<T>>;
using Layout = PairLayout<64, 32>;

/// Of the panels' rows k .. (the mma's depth) and columns column .. column + 15.
template <class T>
struct Panels {
  static constexpr int kPanel = kChunk<T> * kChunk<T>;  // elements
  SharedPointer<T> values;

  __device__ SharedPointer<T> at(int k, int column) const {
    return values + (column / kChunk<T> * kPanel + chunk_place<T>(k, column % kChunk<T>));
  }
  /// Columns column .. column + `columns`, and up to the end of their panel.
  __device__ void load(const Factor<T>& from, int row, int column, int columns) const {
    for (int c = 0; c < columns; c += kChunk<T>) {
      load_chunk<kChunk<T>>(values + c * kChunk<T>, from, row, column + c, kChunk<T>);
    }
  }

  /// As right factors: of the columns from `column` on, and of those 8 further.
  __device__ void right(int k, int column, typename MmaFactors<T>::Right (&of)[2]) const {
    const int lane = lane_of_warp();
    if constexpr (std::is_same_v<T, BFloat16>) {
      unsigned x[4];
      ldmatrix_trans(x, at(k + lane % 16, column + lane / 16 * 8));
      of[0] = Bf16Factors::right(x[0], x[1]);
      of[1] = Bf16Factors::right(x[2], x[3]);
    } else {
      for (int i = 0; i < 2; ++i) {
        const int c = column + 8 * i + lane / 4;
        const float low = *at(k + lane % 4, c), high = *at(k + lane % 4 + 4, c);
        of[i] = MmaFactors<T>::right_of(low, high);
      }
    }
  }
  /// As a left factor, the columns being its rows.
  __device__ typename MmaFactors<T>::Left left(int k, int column) const {
    const int lane = lane_of_warp();
    unsigned x[4];
    if constexpr (std::is_same_v<T, BFloat16>) {
      ldmatrix_trans(x, at(k + lane % 8 + lane / 16 * 8, column + lane / 8 % 2 * 8));
    } else {
      for (int i = 0; i < 4; ++i) {
        const float value = *at(k + lane % 4 + i / 2 * 4, column + lane / 4 + i % 2 * 8);
        x[i] = __float_as_uint(value);
      }
    }
    return MmaFactors<T>::left(x);
  }
};

/// sums += the warp's products of a step, for `columns` of the tile's features.
template <bool kTransposed, class T>
__device__ void multiply_step(const SharedPointer<T>& left, const SharedPointer<T>& right,
                              int columns, typename Layout::Scores& sums) {
  using Factors = MmaFactors<T>;
  const int used = (columns - Layout::warp_column() + 15) / 16;  // pairs of the mma's columns
  if (used <= 0) return;
  for (int k = 0; k < kChunk<T>; k += 2 * kVectorSize<T>) {
    typename Factors::Right of[Layout::kColumnTiles / 2][2];
    for (int n = 0; n < Layout::kColumnTiles / 2; ++n) {
      if (n < used) Panels<T>{right}.right(k, Layout::warp_column() + 16 * n, of[n]);
    }
    for (int m = 0; m < Layout::kRowTiles; ++m) {
      const int row = Layout::warp_row() + 16 * m;
      const auto own = kTransposed ? Panels<T>{left}.left(k, row) : left_of_chunk(left, row, k);
      for (int n = 0; n < Layout::kColumnTiles; ++n) {
        if (n / 2 < used) add_product<Factors>(sums[m][n], own, of[n / 2][n % 2]);
      }
    }
  }
}

template <bool kTransposed, class T>
__device__ void multiply_tile(const Products<T>& p, const PairTask& task,
                              const SharedPointer<T>& memory) {
  constexpr int size = kTile * kChunk<T>;
  const PairProduct<Factor<T>>& product = kTransposed ? p.of_b : p.of_a;
  const int columns = min(p.d - task.column, kTile);
  const auto load = [&](int k, int slot) {
    if (k < product.depth) {
      const auto left = memory + 2 * slot * size;
      if constexpr (kTransposed) {
        Panels<T>{left}.load(p.weights, k, task.row, kTile);
      } else {
        load_chunk<kTile>(left, p.weights, task.row, k, kChunk<T>);
      }
      Panels<T>{left + size}.load(product.right, product.first + k, task.column, columns);
    }
    cp_async_commit();
  };
  typename Layout::Scores sums = {};
  load(0, 0);
  for (int k = 0, slot = 0; k < product.depth; k += kChunk<T>, slot = 1 - slot) {
    cp_async_wait_group<0>();
    __syncthreads();  // the step's chunks are there, and the other slot has been used
    load(k + kChunk<T>, 1 - slot);
    multiply_step<kTransposed>(memory + 2 * slot * size, memory + (2 * slot + 1) * size, columns,
                               sums);
  }
  Layout::for_each_score([&](int m, int n, int e) {
    product.store(task.row + Layout::own_row(m, e / 2), task.column + Layout::own_column(n, e % 2),
                  p.d, sums[m][n][e]);
  });
}

template <class T>
__global__ void __launch_bounds__(kPairThreads, kMmaBlocks<T>)
    pair_block_kernel(const __grid_constant__ Products<T> p) {
  CMIR_DYNAMIC_SHARED(T, memory);
  const PairTask task(p, kTile, kTile);
  if (task.of_b) {
    multiply_tile<true>(p, task, memory);
  } else {
    multiply_tile<false>(p, task, memory);
  }
}

}  // namespace

template <class T>
void multiply_block(const PairGradient<T>& g, const PairBlock<T>& block) {
  const auto factor_of = [](const T* values, std::int64_t n, std::int64_t d, std::int64_t stride) {
    return Factor<T>{values, static_cast<int>(n), static_cast<int>(d), stride,
                     are_vectors(values, stride)};
  };
  auto products = pair_products(
      g, block, factor_of(block.values, block.rows, block.stride, block.stride),
      [&](const T* right) { return factor_of(right, g.scores.n, g.scores.d, g.scores.d); });
  const unsigned tiles = products.number_tiles(kTile, kTile);
  launch(pair_block_kernel<T>,
         {.grid = dim3(tiles),
          .block = dim3(kPairThreads),
          .shared_bytes = 4 * kTile * kChunk<T> * sizeof(T)},
         products);
}
template void multiply_block(const PairGradient<float>&, const PairBlock<float>&);
template void multiply_block(const PairGradient<BFloat16>&, const PairBlock<BFloat16>&);

}  // namespace cmir::kernels::CMIR_DEVICE
