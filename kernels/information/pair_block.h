// A block of dS (kernels/information/pairs.h) on CUDA, and its two products, da += dS b and db +=
// dS^T a, in one launch: da has few tiles with long sums, db many with short ones, and together
// they fill the GPU.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/information/pairs.h"

namespace cmir::kernels::CMIR_DEVICE {

/// scale dS of rows row .. row + rows and columns column .. column + columns, its rows `stride`
/// elements apart; zeros behind its columns, up to a multiple of kPairTile or to the stride.
template <class T>
struct PairBlock {
  T* values;
  std::int64_t row, rows, column, columns, stride;
};

/// All of g, by blocks of at most `rows` x `columns`, multiples of kPairTile, or all rows and a
/// multiple of 8 that is all columns. The workspace has room for one.
template <class T>
void differentiate_by_blocks(const PairGradient<T>& g, std::int64_t rows, std::int64_t columns);

/// Adds to the block's rows of g.da and g.db, either of which may be null, or where it is the first
/// to: sets them. T: float (by three products of TF32) or BFloat16.
template <class T>
void multiply_block(const PairGradient<T>& g, const PairBlock<T>& block);
/// The same for factors that PairWarpgroupTiles takes. `wide`: by tiles of 256 features, which read
/// less than those of 128 but are fewer.
void multiply_on_warpgroups(const PairGradient<BFloat16>& g, const PairBlock<BFloat16>& block,
                            bool wide);

/// One of the products: result [rows, d] (+)= W right, where W [rows, depth] is the block, or its
/// transpose. Right: what a kernel copies b, or a, from.
template <class Right>
struct PairProduct {
  Right right;
  int first, depth;  ///< of its rows
  float* result;     ///< or null
  int rows, tiles;
  bool adds;

  __device__ void store(int row, int column, int d, float value) const {
    if (row >= rows || column >= d) return;
    float* const to = result + (std::int64_t{row} * d + column);
    // Nobody else adds there in this launch: it does not wait for what it adds to.
    adds ? static_cast<void>(atomicAdd(to, value)) : static_cast<void>(*to = value);
  }
};
template <class Weights, class Right>
struct PairProducts {
  Weights weights;
  PairProduct<Right> of_a, of_b;
  int d, across;  ///< across: tiles of features

  /// The tiles of those products that are wanted, of tile_rows x tile_columns; returns their
  /// number.
  unsigned number_tiles(int tile_rows, int tile_columns) {
    across = (d + tile_columns - 1) / tile_columns;
    for (PairProduct<Right>* product : {&of_a, &of_b}) {
      const int down = (product->rows + tile_rows - 1) / tile_rows;
      product->tiles = product->result != nullptr ? down * across : 0;
    }
    return static_cast<unsigned>(of_a.tiles + of_b.tiles);
  }
};

/// right_of(matrix [n, d]) is what is copied from it.
template <class T, class Weights, class RightOf>
auto pair_products(const PairGradient<T>& g, const PairBlock<T>& block, const Weights& weights,
                   const RightOf& right_of) {
  using Right = decltype(right_of(g.scores.a));
  const auto product = [&](const T* right, std::int64_t first, std::int64_t depth, float* result,
                           std::int64_t row, std::int64_t rows) {
    return PairProduct<Right>{right_of(right),
                              static_cast<int>(first),
                              static_cast<int>(depth),
                              result == nullptr ? nullptr : result + row * g.scores.d,
                              static_cast<int>(rows),
                              0,
                              first > 0};
  };
  return PairProducts<Weights, Right>{
      weights, product(g.scores.b, block.column, block.columns, g.da, block.row, block.rows),
      product(g.scores.a, block.row, block.rows, g.db, block.column, block.columns),
      static_cast<int>(g.scores.d), 0};
}

/// What a CUDA block does of them: those of da, which take longer, begin first.
struct PairTask {
  bool of_b;
  int row, column;

  template <class Products>
  __device__ PairTask(const Products& p, int tile_rows, int tile_columns) {
    int tile = static_cast<int>(blockIdx.x);
    of_b = tile >= p.of_a.tiles;
    if (of_b) tile -= p.of_a.tiles;
    row = tile / p.across * tile_rows;
    column = tile % p.across * tile_columns;
  }
};

}  // namespace cmir::kernels::CMIR_DEVICE
