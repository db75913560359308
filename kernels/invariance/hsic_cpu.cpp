#include "kernels/invariance/hsic.h"

#include <algorithm>

#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
#include "kernels/invariance/row_pairs.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// The kernels of row i of x with rows [first, first + count), 0 where the pair is left out.
template <class T>
struct RowOfKernels {
  alignas(64) T values[kPairTile];

  RowOfKernels(const Hsic<T>& a, const T* x, std::int64_t width, double gamma, std::int64_t i,
               std::int64_t first, std::int64_t count) {
    squared_distances(x + i * width, x + first * width, width, count, values);
    const T minus_gamma = static_cast<T>(-gamma);
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) values[j] = cpu::exp(minus_gamma * values[j]);
    if (a.unbiased && i >= first && i < first + count) values[i - first] = 0;
  }
  double sum(std::int64_t count) const {
    double result = 0;
#pragma omp simd reduction(+ : result)
    for (std::int64_t j = 0; j < count; ++j) result += static_cast<double>(values[j]);
    return result;
  }
};

/// Calls body(i, first, count) for the rows [begin, end) and each tile.
template <class T, class Body>
void for_each_tile(const Hsic<T>& a, std::int64_t begin, std::int64_t end, Body&& body) {
  for (std::int64_t first = 0; first < a.rows; first += kPairTile) {
    const std::int64_t count = std::min(kPairTile, a.rows - first);
    for (std::int64_t i = begin; i < end; ++i) body(i, first, count);
  }
}

template <class T>
void sum_rows(const Hsic<T>& a, const HsicSums& sums, std::int64_t begin, std::int64_t end) {
  std::fill(sums.k + begin, sums.k + end, 0.0);
  std::fill(sums.l + begin, sums.l + end, 0.0);
  for_each_tile(a, begin, end, [&](std::int64_t i, std::int64_t first, std::int64_t count) {
    sums.k[i] += RowOfKernels<T>(a, a.x, a.x_width, a.gamma_x, i, first, count).sum(count);
    sums.l[i] += RowOfKernels<T>(a, a.y, a.y_width, a.gamma_y, i, first, count).sum(count);
  });
}

/// The rows' part of sum K L'; their gradients.
template <class T>
double estimate_rows(const Hsic<T>& a, const HsicSums& sums, std::int64_t begin, std::int64_t end) {
  if (a.dx) std::fill(a.dx + begin * a.x_width, a.dx + end * a.x_width, T{0});
  if (a.dy) std::fill(a.dy + begin * a.y_width, a.dy + end * a.y_width, T{0});
  double value = 0;
  for_each_tile(a, begin, end, [&](std::int64_t i, std::int64_t first, std::int64_t count) {
    RowOfKernels<T> of_x(a, a.x, a.x_width, a.gamma_x, i, first, count);
    RowOfKernels<T> of_y(a, a.y, a.y_width, a.gamma_y, i, first, count);
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t j = 0; j < count; ++j) {
      const auto k = static_cast<double>(of_x.values[j]), l = static_cast<double>(of_y.values[j]);
      const double by_k = k * sums.centred_l(l, i, first + j);
      const double by_l = l * sums.centred_k(k, i, first + j);
      sum += by_k;
      of_x.values[j] = static_cast<T>(-4 * a.gamma_x * sums.f * by_k);
      of_y.values[j] = static_cast<T>(-4 * a.gamma_y * sums.f * by_l);
    }
    value += sum;
    if (a.dx) {
      add_differences(a.x + i * a.x_width, a.x + first * a.x_width, a.x_width, count, of_x.values,
                      a.dx + i * a.x_width);
    }
    if (a.dy) {
      add_differences(a.y + i * a.y_width, a.y + first * a.y_width, a.y_width, count, of_y.values,
                      a.dy + i * a.y_width);
    }
  });
  return value;
}

template <class T>
void hsic(const Hsic<T>& a) {
  constexpr std::int64_t grain = Hsic<T>::kGrain;
  const HsicSums sums(a.scratch, a.rows, a.unbiased);
  parallel_for(0, a.rows, grain,
               [&](std::int64_t begin, std::int64_t end) { sum_rows(a, sums, begin, end); });
  sums.totals[0] = sums.totals[1] = 0;
  for (std::int64_t i = 0; i < a.rows; ++i) {
    sums.totals[0] += sums.k[i];
    sums.totals[1] += sums.l[i];
  }
  parallel_for(0, a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    sums.partial[begin / grain] = estimate_rows(a, sums, begin, end);
  });
  double value = 0;
  for (std::int64_t chunk = 0; chunk < chunk_count(0, a.rows, grain); ++chunk) {
    value += sums.partial[chunk];
  }
  *a.value = static_cast<T>(sums.f * value);
}

const RegisterCpu registered{kIsa, &hsic<float>, &hsic<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
