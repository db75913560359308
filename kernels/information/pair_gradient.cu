#include <cstring>

#include "kernels/cuda/blas.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/information/pair_tile.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// Weights and shifts of a tile's rows or columns.
struct Exponents {
  SharedPointer<float> weights, shifts;  // [kTile]

  /// Those of row or column i; past the end, or where there are none, 0 exp(s).
  __device__ void load(int place, const float* weight, const float* shift, int i, int n) const {
    const bool inside = weight != nullptr && i < n;
    weights[place] = inside ? weight[i] : 0.0F;
    shifts[place] = inside ? shift[i] : 0.0F;
  }
};

/// The largest shift of a warp's rows and columns if all lie within kPairRange of each other, else
/// NaN.
__device__ float shared_shift(const Exponents& rows, const Exponents& columns) {
  float largest = kMinusInfinity, smallest = -kMinusInfinity;
  const auto include = [&](float shift) {
    largest = fmaxf(largest, shift);
    smallest = fminf(smallest, shift);
  };
  for (int i = lane_of_warp(); i < kWarpRows; i += 32) include(rows.shifts[warp_row() + i]);
  for (int j = lane_of_warp(); j < kWarpColumns; j += 32)
    include(columns.shifts[warp_column() + j]);
  largest = warp_reduce(largest, Maximum{});
  smallest = warp_reduce(smallest, Minimum{});
  return largest - smallest <= kPairRange ? largest : std::numeric_limits<float>::quiet_NaN();
}

/// The thread's products become scale dS, `two_way` with a part of the columns'. With a shift z
/// that all of the warp's are near to, the two parts share one exp:
///   exp(s - row_shift) (row_weight + column_weight exp(z - column_shift) exp(row_shift - z)).
template <class T>
__device__ void weigh(const Exponents& rows, const Exponents& columns, bool two_way, float scale,
                      WarpScores& scores) {
  const float z = two_way ? shared_shift(rows, columns) : 0.0F;
  if (isnan(z)) {
    for_each_score([&](int m, int n, int e) {
      const int i = own_row(m, e / 2), j = own_column(n, e % 2);
      const float s = scale * scores[m][n][e];
      scores[m][n][e] = scale * (rows.weights[i] * exponential<T>(s - rows.shifts[i]) +
                                 columns.weights[j] * exponential<T>(s - columns.shifts[j]));
    });
    return;
  }
  float of_columns[2 * kColumnTiles] = {};
  for (int c = 0; c < 2 * kColumnTiles && two_way; ++c) {
    const int j = own_column(c / 2, c % 2);
    of_columns[c] = scale * columns.weights[j] * exponential<T>(z - columns.shifts[j]);
  }
  for_constants<2 * kRowTiles>([&](auto r) {
    constexpr int m = r / 2, half = r % 2;
    const int i = own_row(m, half);
    const float shift = rows.shifts[i], weight = scale * rows.weights[i];
    const float factor = two_way ? exponential<T>(shift - z) : 0.0F;
    for_constants<2 * kColumnTiles>([&](auto c) {
      float& score = scores[m][c / 2][2 * half + c % 2];
      score = exponential<T>(scale * score - shift) * (weight + of_columns[c] * factor);
    });
  });
}

/// Of a tile on the diagonal.
__device__ void set_diagonal(const SharedPointer<float>& weights, float scale, WarpScores& scores) {
  for_constants<2 * kRowTiles>([&](auto r) {
    const int i = own_row(r / 2, r % 2);
    const float own = scale * weights[i];
    for_constants<2 * kColumnTiles>([&](auto c) {
      if (own_column(c / 2, c % 2) == i) scores[r / 2][c / 2][r % 2 * 2 + c % 2] = own;
    });
  });
}

/// `rows` rows of dS in memory, `stride` elements apart. Those past column n mean nothing.
template <class T>
struct Band {
  T* values;
  std::int64_t first, rows, stride;
};

/// The thread's scores in one row, two neighbours of each 8 x 8 tile; nothing to a null pointer,
/// nor from column `end` on.
__device__ void store_row(float* to, int end, const float (&scores)[kColumnTiles][4], int half) {
  for (int n = 0; n < kColumnTiles; ++n) {
    const int j = own_column(n, 0);
    if (to == nullptr || j >= end) continue;
    store_vector(to + j, Vector<float, 2>{scores[n][2 * half], scores[n][2 * half + 1]});
  }
}
/// Rounded. Of two tiles, neighbouring lanes swap what makes four in a row of either, so that a
/// quad of lanes writes 32 bytes at once. All lanes call.
__device__ void store_row(BFloat16* to, int end, const float (&scores)[kColumnTiles][4], int half) {
  const bool odd = lane_of_warp() % 2 != 0;
  for (int n = 0; n < kColumnTiles; n += 2) {
    const unsigned left = pack_bf16(scores[n][2 * half], scores[n][2 * half + 1]);
    const unsigned right = pack_bf16(scores[n + 1][2 * half], scores[n + 1][2 * half + 1]);
    const unsigned other = __shfl_xor_sync(0xFFFFFFFF, odd ? left : right, 1);
    const unsigned packed[2] = {odd ? other : left, odd ? right : other};
    const int j = odd ? own_column(n + 1, 0) - 2 : own_column(n, 0);
    if (to == nullptr || j >= end) continue;
    Vector<BFloat16, 4> values;
    std::memcpy(&values, packed, sizeof(values));
    store_vector(to + j, values);
  }
}

/// Writes scale dS of a band, in T. Block (x, y): its 128 rows y, columns of strip x.
template <class T>
__global__ void __launch_bounds__(kPairThreads, kPairBlocks<T>)
    pair_weights_kernel(PairGradient<T> g, Band<T> band, int strip, bool vectors) {
  CMIR_DYNAMIC_SHARED(T, chunks);
  CMIR_SHARED(float, exponents, [4 * kTile]);
  CMIR_SHARED(float, diagonal, [kTile]);
  const Exponents rows{exponents + 0, exponents + kTile},
      columns{exponents + 2 * kTile, exponents + 3 * kTile};
  const int n = static_cast<int>(g.scores.n), thread = static_cast<int>(threadIdx.x);
  const int first_row = static_cast<int>(band.first) + static_cast<int>(blockIdx.y) * kTile,
            first_column = static_cast<int>(blockIdx.x) * strip;
  const TileRange tiles{first_row, first_row + 1, first_column, min(first_column + strip, n)};
  const auto scale = static_cast<float>(g.scores.scale());
  for_each_tile(g.scores, vectors, tiles, chunks, [&](int row, int column, WarpScores& scores) {
    if (thread < kTile) {
      const int i = row + thread;
      rows.load(thread, g.row_weight, g.row_shift, i, n);
      diagonal[thread] = i < n ? g.diagonal_weight[i] : 0.0F;
    } else {
      const int j = thread - kTile;
      columns.load(j, g.column_weight, g.column_shift, column + j, n);
    }
    __syncthreads();
    weigh<T>(rows, columns, g.column_weight != nullptr, scale, scores);
    if (row == column) set_diagonal(diagonal, scale, scores);
    const int left = static_cast<int>(band.first + band.rows) - row,
              end = min(static_cast<int>(band.stride) - column, kTile);
    T* const place = band.values + (row - band.first) * band.stride + column;
    for_constants<2 * kRowTiles>([&](auto r) {
      const int i = own_row(r / 2, r % 2);
      store_row(i < left ? place + i * band.stride : nullptr, end, scores[r / 2], r % 2);
    });
  });
}

template <class T>
void write_weights(const PairGradient<T>& g, const Band<T>& band) {
  const std::int64_t n = g.scores.n, strip = pair_region(n);
  launch(pair_weights_kernel<T>,
         {.grid = dim3(blocks_of(n, strip), blocks_of(band.rows, kTile)),
          .block = dim3(kPairThreads),
          .shared_bytes = kChunks<T> * sizeof(T)},
         g, band, static_cast<int>(strip), are_vectors(g.scores));
}

/// Its rows of da.
template <class T>
void differentiate_a(const PairGradient<T>& g, const Band<T>& band) {
  const std::int64_t n = g.scores.n, d = g.scores.d;
  product(Gemm<T>{.m = band.rows,
                  .n = d,
                  .k = n,
                  .a = band.values,
                  .lda = band.stride,
                  .b = g.scores.b,
                  .ldb = d,
                  .c = g.da + band.first * d,
                  .ldc = d});
}
/// What it adds to db.
template <class T>
void differentiate_b(const PairGradient<T>& g, const Band<T>& band) {
  const std::int64_t n = g.scores.n, d = g.scores.d;
  product(Gemm<T>{.transpose_a = true,
                  .m = n,
                  .n = d,
                  .k = band.rows,
                  .a = band.values,
                  .lda = band.stride,
                  .b = g.scores.a + band.first * d,
                  .ldb = d,
                  .beta = band.first > 0 ? 1.0F : 0.0F,
                  .c = g.db,
                  .ldc = d});
}

template <class T>
void differentiate(const PairGradient<T>& g) {
  if (g.da == nullptr && g.db == nullptr) return;
  const std::int64_t n = g.scores.n, rows = pair_band<T>(n);
  for (std::int64_t first = 0; first < n; first += rows) {
    const Band<T> band{reinterpret_cast<T*>(g.workspace), first, std::min(rows, n - first),
                       pair_band_stride(n)};
    write_weights(g, band);
    if (g.da != nullptr) differentiate_a(g, band);
    if (g.db != nullptr) differentiate_b(g, band);
  }
}

const RegisterDevice registered{&differentiate<float>, &differentiate<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
