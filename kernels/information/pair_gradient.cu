#include <cstring>

#include "kernels/cuda/reduce.cuh"
#include "kernels/information/pair_block.h"
#include "kernels/information/pair_tile.cuh"
#include "kernels/information/pair_tile_warpgroups.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// Weights and shifts of a tile's rows or columns.
struct Exponents {
  SharedPointer<float> weights, shifts;  // [kTile]

  /// Those of row or column i; past the end, or where there are none, 0 exp(s).
  template <class T>
  __device__ void load(const PairGradient<T>& g, int place, const float* weight, const float* shift,
                       int i) const {
    const bool inside = weight != nullptr && i < static_cast<int>(g.scores.n);
    weights[place] = inside ? weight[i] * g.cotangent_of(i) : 0.0F;
    shifts[place] = inside ? shift[i] : 0.0F;
  }
};

/// The largest shift of a warp's rows and columns if all lie within kPairRange of each other, else
/// NaN.
template <class Tiles>
__device__ float shared_shift(const Exponents& rows, const Exponents& columns) {
  float largest = kMinusInfinity, smallest = -kMinusInfinity;
  const auto include = [&](float shift) {
    largest = fmaxf(largest, shift);
    smallest = fminf(smallest, shift);
  };
  for (int i = lane_of_warp(); i < Tiles::kWarpRows; i += 32)
    include(rows.shifts[Tiles::warp_row() + i]);
  for (int j = lane_of_warp(); j < Tiles::kWarpColumns; j += 32)
    include(columns.shifts[Tiles::warp_column() + j]);
  largest = warp_reduce(largest, Maximum{});
  smallest = warp_reduce(smallest, Minimum{});
  return largest - smallest <= kPairRange ? largest : std::numeric_limits<float>::quiet_NaN();
}

/// The thread's products become scale dS, `two_way` with a part of the columns'. With a shift z
/// that all of the warp's are near to, the two parts share one exp:
///   exp(s - z) (row_weight exp(z - row_shift) + column_weight exp(z - column_shift)),
/// of which the warp leaves its columns' factors in of_columns, [Tiles::kWarpColumns].
template <class Tiles>
__device__ void weigh(const Exponents& rows, const Exponents& columns, bool two_way, float scale,
                      const SharedPointer<float>& of_columns, typename Tiles::Scores& scores) {
  using T = typename Tiles::Element;
  const float z = two_way ? shared_shift<Tiles>(rows, columns) : 0.0F;
  if (isnan(z)) {
    Tiles::for_each_score([&](int m, int n, int e) {
      const int i = Tiles::own_row(m, e / 2), j = Tiles::own_column(n, e % 2);
      const float s = scale * scores[m][n][e];
      scores[m][n][e] = scale * (rows.weights[i] * exponential<T>(s - rows.shifts[i]) +
                                 columns.weights[j] * exponential<T>(s - columns.shifts[j]));
    });
    return;
  }
  for (int c = lane_of_warp(); c < Tiles::kWarpColumns && two_way; c += 32) {
    const int j = Tiles::warp_column() + c;
    of_columns[c] = scale * columns.weights[j] * exponential<T>(z - columns.shifts[j]);
  }
  __syncwarp();
  float weights[2 * Tiles::kRowTiles], shifts[2 * Tiles::kRowTiles];
  for (int r = 0; r < 2 * Tiles::kRowTiles; ++r) {
    const int i = Tiles::own_row(r / 2, r % 2);
    const float shift = rows.shifts[i], weight = scale * rows.weights[i];
    shifts[r] = two_way ? z : shift;
    weights[r] = two_way ? weight * exponential<T>(z - shift) : weight;
  }
  for_constants<2 * Tiles::kColumnTiles>([&](auto c) {
    float of_column = 0;
    if (two_way) of_column = of_columns[Tiles::own_column(c / 2, c % 2) - Tiles::warp_column()];
    for_constants<2 * Tiles::kRowTiles>([&](auto r) {
      float& score = scores[r / 2][c / 2][r % 2 * 2 + c % 2];
      score = exponential<T>(scale * score - shifts[r]) * (weights[r] + of_column);
    });
  });
}

/// Of a tile on the diagonal.
template <class Tiles>
__device__ void set_diagonal(const SharedPointer<float>& weights, float scale,
                             typename Tiles::Scores& scores) {
  for_constants<2 * Tiles::kRowTiles>([&](auto r) {
    const int i = Tiles::own_row(r / 2, r % 2);
    const float own = scale * weights[i];
    for_constants<2 * Tiles::kColumnTiles>([&](auto c) {
      if (Tiles::own_column(c / 2, c % 2) == i) scores[r / 2][c / 2][r % 2 * 2 + c % 2] = own;
    });
  });
}

/// Of columns that are not there.
template <class Tiles>
__device__ void clear_from(int column, typename Tiles::Scores& scores) {
  Tiles::for_each_score([&](int m, int n, int e) {
    if (Tiles::own_column(n, e % 2) >= column) scores[m][n][e] = 0;
  });
}

/// The thread's scores in one row, two neighbours of each 8 x 8 tile; nothing to a null pointer,
/// nor from column `end` on.
template <class Tiles>
__device__ void store_row(float* to, int end, const float (&scores)[Tiles::kColumnTiles][4],
                          int half) {
  for (int n = 0; n < Tiles::kColumnTiles; ++n) {
    const int j = Tiles::own_column(n, 0);
    if (to == nullptr || j >= end) continue;
    store_vector(to + j, Vector<float, 2>{scores[n][2 * half], scores[n][2 * half + 1]});
  }
}
/// Rounded. Of two tiles, neighbouring lanes swap what makes four in a row of either, so that a
/// quad of lanes writes 32 bytes at once. All lanes call.
template <class Tiles>
__device__ void store_row(BFloat16* to, int end, const float (&scores)[Tiles::kColumnTiles][4],
                          int half) {
  const bool odd = lane_of_warp() % 2 != 0;
  for (int n = 0; n < Tiles::kColumnTiles; n += 2) {
    const unsigned left = pack_bf16(scores[n][2 * half], scores[n][2 * half + 1]);
    const unsigned right = pack_bf16(scores[n + 1][2 * half], scores[n + 1][2 * half + 1]);
    const unsigned other = __shfl_xor_sync(0xFFFFFFFF, odd ? left : right, 1);
    const unsigned packed[2] = {odd ? other : left, odd ? right : other};
    const int j = odd ? Tiles::own_column(n + 1, 0) - 2 : Tiles::own_column(n, 0);
    if (to == nullptr || j >= end) continue;
    Vector<BFloat16, 4> values;
    std::memcpy(&values, packed, sizeof(values));
    store_vector(to + j, values);
  }
}

/// Writes scale dS of a block, in T. CUDA block (x, y): its 128 rows y, columns of strip x.
template <class Tiles>
__global__ void __launch_bounds__(kPairThreads, Tiles::kBlocks)
    pair_weights_kernel(const __grid_constant__ PairGradient<typename Tiles::Element> g,
                        const __grid_constant__ typename Tiles::Source source,
                        PairBlock<typename Tiles::Element> block, int strip) {
  if constexpr (Tiles::kHere) {
    using T = typename Tiles::Element;
    CMIR_DYNAMIC_SHARED(T, memory);
    CMIR_SHARED(float, exponents, [4 * kTile]);
    CMIR_SHARED(float, diagonal, [kTile]);
    CMIR_SHARED(float, column_factors, [Tiles::kDown * kTile]);
    const Exponents rows{exponents + 0, exponents + kTile},
        columns{exponents + 2 * kTile, exponents + 3 * kTile};
    const int n = static_cast<int>(g.scores.n), thread = static_cast<int>(threadIdx.x);
    const int block_row = static_cast<int>(blockIdx.y) * kTile,
              block_column = static_cast<int>(blockIdx.x) * strip;
    const int first_row = static_cast<int>(block.row) + block_row,
              first_column = static_cast<int>(block.column) + block_column;
    const TileRange range{first_row, first_row + 1, first_column,
                          static_cast<int>(block.column) +
                              min(block_column + strip, static_cast<int>(block.columns))};
    const auto scale = static_cast<float>(g.scores.scale());
    const Tiles tiles(g.scores, source, memory);
    tiles.for_each(range, [&](int row, int column, typename Tiles::Scores& scores) {
      if (thread < kTile) {
        if (column == range.column) {  // the rows stay
          const int i = row + thread;
          rows.load(g, thread, g.row_weight, g.row_shift, i);
          diagonal[thread] = i < n ? g.diagonal_weight[i] * g.cotangent_of(i) : 0.0F;
        }
      } else {
        const int j = thread - kTile;
        columns.load(g, j, g.column_weight, g.column_shift, column + j);
      }
      __syncthreads();
      weigh<Tiles>(rows, columns, g.column_weight != nullptr, scale,
                   column_factors + Tiles::warp() * Tiles::kWarpColumns, scores);
      if (row == column) set_diagonal<Tiles>(diagonal, scale, scores);
      if (column + kTile > n) clear_from<Tiles>(n - column, scores);
      const int left = static_cast<int>(block.row + block.rows) - row,
                end = min(static_cast<int>(block.column + block.stride) - column, kTile);
      T* const place = block.values + (row - block.row) * block.stride + (column - block.column);
      for_constants<2 * Tiles::kRowTiles>([&](auto r) {
        const int i = Tiles::own_row(r / 2, r % 2);
        store_row<Tiles>(i < left ? place + i * block.stride : nullptr, end, scores[r / 2], r % 2);
      });
    });
  }
}

template <class Tiles>
void write_weights(const PairGradient<typename Tiles::Element>& g,
                   const PairBlock<typename Tiles::Element>& block) {
  const std::int64_t strip = pair_region(block.columns);
  launch(pair_weights_kernel<Tiles>,
         {.grid = dim3(blocks_of(block.columns, strip), blocks_of(block.rows, kTile)),
          .block = dim3(kPairThreads),
          .shared_bytes = Tiles::shared_bytes(g.scores)},
         g, Tiles::source_of(g.scores), block, static_cast<int>(strip));
}

template <class T>
void differentiate_block(const PairGradient<T>& g, const PairBlock<T>& block) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (PairWarpgroupTiles::takes(g.scores)) {
      write_weights<PairWarpgroupTiles>(g, block);
      // Of a smaller block wide tiles would not fill an H100.
      const bool wide = blocks_of(g.scores.d, kTile) % 2 == 0 && block.rows > 4096;
      return multiply_on_warpgroups(g, block, wide);
    }
  }
  write_weights<MmaTiles<T>>(g, block);
  multiply_block(g, block);
}

template <class T>
void differentiate(const PairGradient<T>& g) {
  differentiate_by_blocks(g, pair_block_rows(g.scores.n), pair_block_columns<T>(g.scores.n));
}

const RegisterDevice registered{&differentiate<float>, &differentiate<BFloat16>};

}  // namespace

template <class T>
void differentiate_by_blocks(const PairGradient<T>& g, std::int64_t rows, std::int64_t columns) {
  if (g.da == nullptr && g.db == nullptr) return;
  const std::int64_t n = g.scores.n;
  for (std::int64_t row = 0; row < n; row += rows) {
    for (std::int64_t column = 0; column < n; column += columns) {
      differentiate_block(
          g, PairBlock<T>{reinterpret_cast<T*>(g.workspace), row, std::min(rows, n - row), column,
                          std::min(columns, n - column), columns});
    }
  }
}
template void differentiate_by_blocks(const PairGradient<float>&, std::int64_t, std::int64_t);
template void differentiate_by_blocks(const PairGradient<BFloat16>&, std::int64_t, std::int64_t);

}  // namespace cmir::kernels::CMIR_DEVICE
