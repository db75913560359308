// The products of kernels/information/pairs_cpu.cpp: a tile of scores, and what its dS adds to both
// gradients, by the BLAS or on AMX tiles. Include it after kernels/cpu/isa_begin.h.
#include "kernels/cpu/amx.h"
#include "kernels/information/pairs.h"
#include "kernels/matrix/blas.h"

namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kStride = kPairColumns + 16;

/// Part of the matrix of scores: rows [row, row + rows) and columns [column, column + columns).
template <class T>
struct Tile {
  T* scores;
  std::int64_t row, column, rows, columns;

  T* operator[](std::int64_t i) const { return scores + i * kStride; }
  /// f(g, s_gg) for each element of the matrix's diagonal that is in the tile.
  template <class F>
  void for_diagonal(F&& f) const {
    const std::int64_t end = std::min(row + rows, column + columns);
    for (std::int64_t g = std::max(row, column); g < end; ++g) {
      f(g, scores[(g - row) * kStride + g - column]);
    }
  }
};

/// Where a tile's dS is multiplied to, and whether it is added there.
template <class T>
struct PairTargets {
  T* da;  // [tile's rows, d], or null
  bool add_da;
  T* db;  // [tile's columns, d], or null
  bool add_db;
};

template <class T>
class BlasProducts {
 public:
  using Sum = SumOf<T>;
  /// For tiles of up to `columns` columns.
  BlasProducts(const PairScores<T>& scores, std::int64_t /*columns*/, bool /*of_da*/,
               bool /*of_db*/)
      : s_(scores), scale_(static_cast<Sum>(scores.scale())) {}

  /// tile = scale a b^T.
  void score(const Tile<Sum>& tile) {
    blas_gemm(false, true, tile.rows, tile.columns, s_.d, scale_, s_.a + tile.row * s_.d, s_.d,
              s_.b + tile.column * s_.d, s_.d, Sum{0}, tile.scores, kStride);
  }
  /// da (+)= scale dS b, db (+)= scale dS^T a, of the tile last scored. May change it.
  void differentiate(const Tile<Sum>& tile, const PairTargets<Sum>& to) {
    if constexpr (std::is_same_v<T, BFloat16>) {
      alignas(64) BFloat16 rounded[kPairRows * kStride];
      for (std::int64_t i = 0; i < tile.rows; ++i) {
        for (std::int64_t j = 0; j < tile.columns; ++j) {
          rounded[i * kStride + j] = BFloat16(tile[i][j]);
        }
      }
      differentiate(tile, rounded, to);
    } else {
      differentiate(tile, tile.scores, to);
    }
  }

 private:
  void differentiate(const Tile<Sum>& tile, const T* ds, const PairTargets<Sum>& to) {
    const T *const a = s_.a + tile.row * s_.d, *const b = s_.b + tile.column * s_.d;
    if (to.db) {
      blas_gemm(true, false, tile.columns, s_.d, tile.rows, scale_, ds, kStride, a, s_.d,
                Sum(to.add_db), to.db, s_.d);
    }
    if (to.da) {
      blas_gemm(false, false, tile.rows, s_.d, tile.columns, scale_, ds, kStride, b, s_.d,
                Sum(to.add_da), to.da, s_.d);
    }
  }

  const PairScores<T>& s_;
  const Sum scale_;
};

/// Packs a band of a's and of b's rows once for all tiles that follow one another with it.
template <class T>
class AmxProducts {
 public:
  using Sum = float;
  AmxProducts(const PairScores<T>& scores, std::int64_t columns, bool of_da, bool of_db)
      : s_(scores),
        scale_(static_cast<float>(scores.scale())),
        rows_(std::min(scores.n, kPairRows)),
        a_(rows_, s_.d),
        b_(columns, s_.d),
        a_right_(of_db ? s_.d : 0, rows_),
        b_right_(of_da ? s_.d : 0, columns),
        ds_(of_da || of_db ? kPairRows : 0, (columns + 31) / 32 * 32) {}

  void score(const Tile<float>& tile) {
    const T *const a = s_.a + tile.row * s_.d, *const b = s_.b + tile.column * s_.d;
    if (tile.row != row_) {
      row_ = tile.row;
      a_.pack_left(false, a, s_.d, tile.rows, s_.d);
      if (a_right_.holds()) a_right_.pack_right(false, a, s_.d, tile.rows, s_.d);
    }
    if (tile.column != column_) {
      column_ = tile.column;
      b_.pack_right(true, b, s_.d, s_.d, tile.columns);
      if (b_right_.holds()) b_right_.pack_right(false, b, s_.d, tile.columns, s_.d);
    }
    cpu::multiply(scale_, a_, b_, false, tile.scores, kStride);
  }
  void differentiate(const Tile<float>& tile, const PairTargets<float>& to) {
    if (to.db) {
      ds_.pack_left(true, tile.scores, kStride, tile.columns, tile.rows, scale_);
      cpu::multiply(1.0F, ds_, a_right_, to.add_db, to.db, s_.d);
    }
    if (to.da) {
      ds_.pack_left(false, tile.scores, kStride, tile.rows, tile.columns, scale_);
      cpu::multiply(1.0F, ds_, b_right_, to.add_da, to.da, s_.d);
    }
  }

 private:
  using Factor = cpu::AmxFactor<cpu::kAmxParts<T>>;

  const PairScores<T>& s_;
  const float scale_;
  const std::int64_t rows_;
  const cpu::AmxTiles tiles_;
  Factor a_, b_, a_right_, b_right_, ds_;
  std::int64_t row_ = -1, column_ = -1;  // where the bands begin that are packed
};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
