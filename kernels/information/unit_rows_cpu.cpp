#include "kernels/information/unit_rows.h"

#include <cmath>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
double dot(const T* x, const T* y, std::int64_t width) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t k = 0; k < width; ++k) {
    sum += static_cast<double>(x[k]) * static_cast<double>(y[k]);
  }
  return sum;
}

template <class F>
void for_each_row(std::int64_t rows, std::int64_t width, F&& f) {
  const std::int64_t grain = rows_per_chunk(width);
  parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) f(i, i * width);
  });
}

template <class T>
void forward(const UnitRowsForward<T>& a) {
  for_each_row(a.rows, a.width, [&](std::int64_t row, std::int64_t at) {
    const T* x = a.x + at;
    T* y = a.y + at;
    const double norm = std::sqrt(dot(x, x, a.width));
    const double inverse = norm == 0 ? 0.0 : 1 / norm;
    a.inverse_norm[row] = inverse;
#pragma omp simd
    for (std::int64_t k = 0; k < a.width; ++k) {
      y[k] = static_cast<T>(static_cast<double>(x[k]) * inverse);
    }
  });
}

template <class T>
void backward(const UnitRowsBackward<T>& a) {
  for_each_row(a.rows, a.width, [&](std::int64_t row, std::int64_t at) {
    const T *y = a.y + at, *dy = a.dy + at;
    T* dx = a.dx + at;
    const double along = dot(y, dy, a.width), inverse = a.inverse_norm[row];
#pragma omp simd
    for (std::int64_t k = 0; k < a.width; ++k) {
      const double across = static_cast<double>(dy[k]) - along * static_cast<double>(y[k]);
      dx[k] = static_cast<T>(inverse * across);
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
