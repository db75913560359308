#include "kernels/loss/decorrelation.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// f32 for bf16, which has no conversion to f64.
template <class T>
double widened(T x) {
  return static_cast<double>(static_cast<SumOf<T>>(x));
}

/// The three sums <x, y>, <x, x>, <y, y> of one row.
template <class T>
void dots(const T* x, const SumOf<T>* y, std::int64_t count, double* sums) {
  double xy = 0, xx = 0, yy = 0;
#pragma omp simd reduction(+ : xy, xx, yy)
  for (std::int64_t j = 0; j < count; ++j) {
    const double p = widened(x[j]), q = static_cast<double>(y[j]);
    xy += p * q;
    xx += p * p;
    yy += q * q;
  }
  sums[0] = xy;
  sums[1] = xx;
  sums[2] = yy;
}

template <class T>
void cross_norm(const CrossNorm<T>& a) {
  const double weight = a.alpha * a.alpha;
  parallel_for(0, a.n, rows_per_chunk(a.n, 16384), [&](std::int64_t begin, std::int64_t end) {
    const T weight_t = static_cast<T>(weight);
    for (std::int64_t i = begin; i < end; ++i) {
      T* c = a.c + i * a.n;
      const T diagonal = c[i];
      c[i] = 0;
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t j = 0; j < a.n; ++j) {
        sum += static_cast<double>(c[j]) * static_cast<double>(c[j]);
        c[j] *= weight_t;
      }
      c[i] = diagonal;
      a.row_sums[i] = weight * sum + static_cast<double>(diagonal) * static_cast<double>(diagonal);
    }
  });
  double sum = 0;
  for (std::int64_t i = 0; i < a.n; ++i) sum += a.row_sums[i];
  const double norm = std::sqrt(sum);
  *a.value = static_cast<T>(a.scale * norm);
  *a.factor = norm == 0 ? 0.0 : a.scale / norm;
}

template <class T>
void row_dot(const RowDot<T>& a) {
  parallel_for(0, a.rows, rows_per_chunk(a.width, 16384),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   double sums[3];
                   dots(a.a + i * a.width, a.b + i * a.width, a.width, sums);
                   a.diagonal[i] = static_cast<SumOf<T>>(sums[0]);
                 }
               });
}

template <class T>
void gram_norm(const GramNorm<T>& a) {
  parallel_for(0, a.d, rows_per_chunk(a.d, 16384), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      dots(a.gram_a + i * a.d, a.gram_b + i * a.d, a.d, a.row_sums + 3 * i);
    }
  });
  double sums[3] = {}, diagonal = 0;
  for (std::int64_t i = 0; i < 3 * a.d; ++i) sums[i % 3] += a.row_sums[i];
  for (std::int64_t i = 0; a.diagonal && i < a.rows; ++i) {
    diagonal += static_cast<double>(a.diagonal[i]) * static_cast<double>(a.diagonal[i]);
  }
  const double weight = a.alpha * a.alpha;
  const double square = weight * sums[0] + (1 - weight) * diagonal;
  const double resolution =
      std::numeric_limits<T>::epsilon() * weight * std::sqrt(sums[1] * sums[2]);
  *a.value = static_cast<T>(a.scale * std::sqrt(square < 0 ? 0.0 : square));  // NaN stays NaN
  const double floored = square < resolution ? resolution : square;
  *a.factor = floored == 0 ? 0.0 : a.scale / std::sqrt(floored);
}

const RegisterCpu registered{kIsa,
                             &cross_norm<float>,
                             &cross_norm<double>,
                             &row_dot<float>,
                             &row_dot<double>,
                             &row_dot<BFloat16>,
                             &gram_norm<float>,
                             &gram_norm<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
