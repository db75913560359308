#include "kernels/information/leave_one_out.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "core/parallel.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/matrix/blas.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kRows = kLeaveOneOutRows, kColumns = kLeaveOneOutRows;
template <class T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();

/// Scores of rows [row, row + rows) and columns [column, column + columns), `stride` apart.
template <class T>
struct Tile {
  T* scores;
  std::int64_t stride, row, rows, column, columns;

  T* operator[](std::int64_t i) const { return scores + i * stride; }
  /// The products, -inf on the diagonal of the whole.
  template <class Args>
  void fill(const Args& l) const {
    const std::int64_t depth = l.depth;
    blas_gemm(false, true, rows, columns, depth, T{1}, l.a + row * depth, depth,
              l.b + column * depth, depth, T{0}, scores, stride);
    const std::int64_t end = std::min(row + rows, column + columns);
    for (std::int64_t i = std::max(row, column); i < end; ++i) {
      (*this)[i - row][i - column] = kMinusInfinity<T>;
    }
  }
};

/// ln sum exp over what was added so far, as largest + ln sum; -inf and 0 over nothing.
template <class T>
struct RunningSum {
  T largest = kMinusInfinity<T>;
  double sum = 0;

  void add(const T* s, std::int64_t count) {
    T top = largest;
#pragma omp simd reduction(max : top)
    for (std::int64_t j = 0; j < count; ++j) top = s[j] > top ? s[j] : top;
    const T shift = top == kMinusInfinity<T> ? T{0} : top;
    T part = 0;
#pragma omp simd reduction(+ : part)
    for (std::int64_t j = 0; j < count; ++j) part += cpu::exp(s[j] - shift);
    sum *= std::exp(static_cast<double>(largest) - static_cast<double>(shift));
    sum += static_cast<double>(part);
    largest = top;
  }
};

/// `band` is for a tile of it.
template <class T>
void sum_band(const LeaveOneOutForward<T>& l, std::int64_t row, std::int64_t rows, T* band) {
  RunningSum<T> sums[kRows];
  for (std::int64_t column = 0; column < l.samples; column += kColumns) {
    const Tile<T> tile{band, kColumns, row, rows, column, std::min(kColumns, l.samples - column)};
    tile.fill(l);
    for (std::int64_t i = 0; i < rows; ++i) sums[i].add(tile[i], tile.columns);
  }
  const double others = std::log(static_cast<double>(l.samples - 1));
  for (std::int64_t i = 0; i < rows; ++i) {
    const double all = static_cast<double>(sums[i].largest) + std::log(sums[i].sum);
    l.largest[row + i] = sums[i].largest;
    l.sum[row + i] = sums[i].sum;
    l.of_rows[row + i] = l.own[row + i] - all + others;
  }
}

template <class T>
void forward(const LeaveOneOutForward<T>& l) {
  parallel_for(0, l.samples, kRows, [&](std::int64_t begin, std::int64_t end) {
    sum_band(l, begin, end - begin, l.workspace + begin * kColumns);
  });
  double sum = 0;
  for (std::int64_t i = 0; i < l.samples; ++i) sum += l.of_rows[i];
  *l.value = static_cast<T>(l.scale * sum);
}

/// Below it an exp is 0 beside its row's largest: about eps^4. Let through, it would become a
/// denormal number with the weight, and products of those are an order of magnitude slower.
template <class T>
constexpr T kSmallestExponent = std::is_same_v<T, float> ? T(-64) : T(-144);

/// The scores s become -factor P.
template <class T>
void weigh(const LeaveOneOutBackward<T>& l, double factor, const Tile<T>& tile) {
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    T* s = tile[i];
    const T largest = l.largest[tile.row + i];
    const T weight = static_cast<T>(-factor / l.sum[tile.row + i]);
#pragma omp simd
    for (std::int64_t j = 0; j < tile.columns; ++j) {
      const T exponent = s[j] - largest, weighed = weight * cpu::exp(exponent);
      s[j] = exponent < kSmallestExponent<T> ? T{0} : weighed;
    }
  }
}

template <class T>
void backward_of_band(const LeaveOneOutBackward<T>& l, double factor, std::int64_t row,
                      std::int64_t rows) {
  const std::int64_t n = l.samples, depth = l.depth, stride = leave_one_out_stride(n);
  parallel_for(0, n, kColumns, [&](std::int64_t begin, std::int64_t end) {
    const Tile<T> tile{l.workspace + begin, stride, row, rows, begin, end - begin};
    tile.fill(l);
    weigh(l, factor, tile);
    if (!l.db) return;
    blas_gemm(true, false, tile.columns, depth, rows, T{1}, tile.scores, stride, l.a + row * depth,
              depth, row == 0 ? T{0} : T{1}, l.db + begin * depth, depth);
  });
  if (!l.da) return;
  parallel_for(0, rows, 32, [&](std::int64_t begin, std::int64_t end) {
    blas_gemm(false, false, end - begin, depth, n, T{1}, l.workspace + begin * stride, stride, l.b,
              depth, T{0}, l.da + (row + begin) * depth, depth);
  });
}

template <class T>
void backward(const LeaveOneOutBackward<T>& l) {
  const double factor = l.scale * static_cast<double>(*l.cotangent);
  for (std::int64_t row = 0; row < l.samples; row += kRows) {
    backward_of_band(l, factor, row, std::min(kRows, l.samples - row));
  }
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
