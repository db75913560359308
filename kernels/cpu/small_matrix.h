// C = A B and C += A B for matrices too small, too oddly strided or too many for a BLAS call each.
// Include it after kernels/cpu/isa_begin.h: it is compiled for the instruction set of the including
// file.
//
// B is packed first into panels of two vectors' width, so that the inner loop reads it in order and
// a tail of columns is only a narrower store. A tile of 6 rows times one panel lives in 12 vector
// registers. Each element of C is summed over ascending depth starting from the old C, whatever
// tile it falls into: a row's bits do not depend on the other rows.
#include "kernels/cpu/panels.h"

namespace cmir::kernels::CMIR_ISA {
namespace {

#if CMIR_ISA_LEVEL == 2
constexpr int kVectorBytes = 64;
#elif CMIR_ISA_LEVEL == 1
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};
template <class T>
constexpr std::int64_t kLanes = kVectorBytes / static_cast<std::int64_t>(sizeof(T));
template <class T>
constexpr std::int64_t kPanel = 2 * kLanes<T>;

/// Packs B [depth, columns], B(k, j) = b[k * row_stride + j * column_stride]: packed[p][k][j'], j =
/// p kPanel + j', zeros past the last column. `panel_depth` >= depth is the depth of the packed
/// matrix of which these rows are a part that starts at `packed`. B is of T, or bf16 to be widened.
template <class From, class T>
void pack(const From* b, std::int64_t row_stride, std::int64_t column_stride, std::int64_t depth,
          std::int64_t columns, std::int64_t panel_depth, T* packed) {
  for (std::int64_t j0 = 0; j0 < columns; j0 += kPanel<T>) {
    const std::int64_t width = std::min(kPanel<T>, columns - j0);
    if (column_stride == 1) {
      for (std::int64_t k = 0; k < depth; ++k) {
        const From* from = b + k * row_stride + j0;
        T* to = packed + k * kPanel<T>;
        for (std::int64_t j = 0; j < width; ++j) to[j] = static_cast<T>(from[j]);
        for (std::int64_t j = width; j < kPanel<T>; ++j) to[j] = T{0};
      }
    } else {
      for (std::int64_t j = 0; j < kPanel<T>; ++j) {
        const From* from = b + (j0 + j) * column_stride;
        T* to = packed + j;
        for (std::int64_t k = 0; k < depth; ++k)
          to[k * kPanel<T>] = j < width ? static_cast<T>(from[k * row_stride]) : T{0};
      }
    }
    packed += panel_depth * kPanel<T>;
  }
}

/// c[M rows, one panel] = a b, or += with kAdd; every element of c can be read and written. b's
/// rows are b_stride apart: kPanel where it is packed.
template <class T, int M, bool kAdd>
void multiply_tile(std::int64_t depth, const T* a, std::int64_t row_stride,
                   std::int64_t depth_stride, const T* b, std::int64_t b_stride, T* c,
                   std::int64_t c_stride) {
  using Vector = typename VectorOf<T>::type;
  Vector sum[M][2] = {};
  if constexpr (kAdd) {
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const auto* row = reinterpret_cast<const Vector*>(c + i * c_stride);
      sum[i][0] = row[0];
      sum[i][1] = row[1];
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    const auto* row = reinterpret_cast<const Vector*>(b + k * b_stride);
    const Vector b0 = row[0], b1 = row[1];
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const T x = a[i * row_stride + k * depth_stride];
      sum[i][0] += x * b0;
      sum[i][1] += x * b1;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i) {
    auto* row = reinterpret_cast<Vector*>(c + i * c_stride);
    row[0] = sum[i][0];
    row[1] = sum[i][1];
  }
}

/// The same for a panel of which only `columns` are c's own: through a copy.
template <class T, int M, bool kAdd>
void multiply_edge(std::int64_t depth, const T* a, std::int64_t row_stride,
                   std::int64_t depth_stride, const T* b, std::int64_t b_stride, T* c,
                   std::int64_t c_stride, std::int64_t columns) {
  if (columns == kPanel<T>) {
    return multiply_tile<T, M, kAdd>(depth, a, row_stride, depth_stride, b, b_stride, c, c_stride);
  }
  T copy[M * kPanel<T>] = {};
  for (int i = 0; i < M && kAdd; ++i) std::copy_n(c + i * c_stride, columns, copy + i * kPanel<T>);
  multiply_tile<T, M, kAdd>(depth, a, row_stride, depth_stride, b, b_stride, copy, kPanel<T>);
  for (int i = 0; i < M; ++i) std::copy_n(copy + i * kPanel<T>, columns, c + i * c_stride);
}

/// The loops of multiply and multiply_rows: column j of B, at a panel's start, is at b + j *
/// b_column, and its rows are b_stride apart.
template <bool kAdd, class T>
void multiply_panels(std::int64_t rows, std::int64_t columns, std::int64_t depth, const T* a,
                     std::int64_t row_stride, std::int64_t depth_stride, const T* b,
                     std::int64_t b_column, std::int64_t b_stride, T* c, std::int64_t c_stride) {
  const auto tile = [&]<int M>(std::int64_t i, std::int64_t j) {
    multiply_edge<T, M, kAdd>(depth, a + i * row_stride, row_stride, depth_stride, b + j * b_column,
                              b_stride, c + i * c_stride + j, c_stride,
                              std::min(kPanel<T>, columns - j));
  };
  const auto row_tile = [&](std::int64_t i, std::int64_t j) {
    switch (std::min<std::int64_t>(6, rows - i)) {
      case 6:
        return tile.template operator()<6>(i, j);
      case 5:
        return tile.template operator()<5>(i, j);
      case 4:
        return tile.template operator()<4>(i, j);
      case 3:
        return tile.template operator()<3>(i, j);
      case 2:
        return tile.template operator()<2>(i, j);
      default:
        return tile.template operator()<1>(i, j);
    }
  };
  if (depth_stride == 1) {  // A's rows are read in order: keep B's panel in the first-level cache
    for (std::int64_t j = 0; j < columns; j += kPanel<T>) {
      for (std::int64_t i = 0; i < rows; i += 6) row_tile(i, j);
    }
  } else {  // A is read with a stride: keep its cache lines, and read B's panels in order
    for (std::int64_t i = 0; i < rows; i += 6) {
      for (std::int64_t j = 0; j < columns; j += kPanel<T>) row_tile(i, j);
    }
  }
}

/// C [rows, columns] = A B, or += with kAdd, where A(i, k) = a[i * row_stride + k * depth_stride],
/// B is packed with depth `depth` and C's rows are c_stride apart. Where C has room for whole
/// panels, pass the padded number of columns (see padded_columns): the columns past B's own become
/// zero (or stay), and no edge is copied.
template <bool kAdd, class T>
void multiply(std::int64_t rows, std::int64_t columns, std::int64_t depth, const T* a,
              std::int64_t row_stride, std::int64_t depth_stride, const T* packed, T* c,
              std::int64_t c_stride) {
  multiply_panels<kAdd>(rows, columns, depth, a, row_stride, depth_stride, packed, depth, kPanel<T>,
                        c, c_stride);
}

/// The same for B [depth, columns] that is not packed, with rows b_stride apart. All of B's and C's
/// panels are read and written whole.
template <bool kAdd, class T>
void multiply_rows(std::int64_t rows, std::int64_t columns, std::int64_t depth, const T* a,
                   std::int64_t row_stride, std::int64_t depth_stride, const T* b,
                   std::int64_t b_stride, T* c, std::int64_t c_stride) {
  multiply_panels<kAdd>(rows, columns, depth, a, row_stride, depth_stride, b, 1, b_stride, c,
                        c_stride);
}

/// Columns rounded up to whole panels.
template <class T>
std::int64_t padded_columns(std::int64_t columns) {
  return (columns + kPanel<T> - 1) / kPanel<T> * kPanel<T>;
}

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
