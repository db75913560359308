#include "kernels/loss/normalise.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kColumns = 32;  // columns that one chunk walks down together

double divisor(std::int64_t count, bool unbiased) {
  return static_cast<double>(unbiased ? std::max<std::int64_t>(count - 1, 1) : count);
}

double inverse_std(double variance, double epsilon) {
  const double sum = variance + epsilon;
  return sum == 0 ? 0.0 : 1 / std::sqrt(sum);
}

template <class T>
double normalise_row(const T* x, T* y, std::int64_t n, double variance_divisor, double epsilon) {
  double mean = 0, squares = 0;
#pragma omp simd reduction(+ : mean)
  for (std::int64_t j = 0; j < n; ++j) mean += static_cast<double>(x[j]);
  mean /= static_cast<double>(n);
#pragma omp simd reduction(+ : squares)
  for (std::int64_t j = 0; j < n; ++j) {
    const double centred = static_cast<double>(x[j]) - mean;
    squares += centred * centred;
  }
  const double inverse = inverse_std(squares / variance_divisor, epsilon);
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) {
    y[j] = static_cast<T>((static_cast<double>(x[j]) - mean) * inverse);
  }
  return inverse;
}

/// Columns [begin, begin + count) of every row, count <= kColumns.
template <class T>
void normalise_columns(const NormaliseForward<T>& a, std::int64_t begin, std::int64_t count) {
  double mean[kColumns] = {}, squares[kColumns] = {}, inverse[kColumns];
  for (std::int64_t i = 0; i < a.rows; ++i) {
    const T* x = a.x + i * a.width + begin;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) mean[j] += static_cast<double>(x[j]);
  }
  for (std::int64_t j = 0; j < count; ++j) mean[j] /= static_cast<double>(a.rows);
  for (std::int64_t i = 0; i < a.rows; ++i) {
    const T* x = a.x + i * a.width + begin;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) {
      const double centred = static_cast<double>(x[j]) - mean[j];
      squares[j] += centred * centred;
    }
  }
  for (std::int64_t j = 0; j < count; ++j) {
    inverse[j] = a.inverse_std[begin + j] =
        inverse_std(squares[j] / divisor(a.rows, a.unbiased), a.epsilon);
  }
  for (std::int64_t i = 0; i < a.rows; ++i) {
    const T* x = a.x + i * a.width + begin;
    T* y = a.y + i * a.width + begin;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) {
      y[j] = static_cast<T>((static_cast<double>(x[j]) - mean[j]) * inverse[j]);
    }
  }
}

template <class T>
void forward(const NormaliseForward<T>& a) {
  if (a.axis == NormaliseAxis::columns) {
    parallel_for(0, a.width, kColumns, [&](std::int64_t begin, std::int64_t end) {
      normalise_columns(a, begin, end - begin);
    });
    return;
  }
  parallel_for(0, a.rows, rows_per_chunk(a.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      a.inverse_std[i] = normalise_row(a.x + i * a.width, a.y + i * a.width, a.width,
                                       divisor(a.width, a.unbiased), a.epsilon);
    }
  });
}

template <class T>
void backward_row(const T* y, const T* dy, T* dx, std::int64_t n, double variance_divisor,
                  double inverse) {
  double mean = 0, along = 0;  // along: the part of dy in the direction of y
#pragma omp simd reduction(+ : mean, along)
  for (std::int64_t j = 0; j < n; ++j) {
    mean += static_cast<double>(dy[j]);
    along += static_cast<double>(dy[j]) * static_cast<double>(y[j]);
  }
  mean /= static_cast<double>(n);
  along /= variance_divisor;
#pragma omp simd
  for (std::int64_t j = 0; j < n; ++j) {
    dx[j] = static_cast<T>(inverse *
                           (static_cast<double>(dy[j]) - mean - static_cast<double>(y[j]) * along));
  }
}

template <class T>
void backward_columns(const NormaliseBackward<T>& a, double factor, std::int64_t begin,
                      std::int64_t count) {
  double mean[kColumns] = {}, along[kColumns] = {}, inverse[kColumns];
  for (std::int64_t i = 0; i < a.rows; ++i) {
    const T* y = a.y + i * a.width + begin;
    const T* dy = a.dy + i * a.width + begin;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) {
      mean[j] += static_cast<double>(dy[j]);
      along[j] += static_cast<double>(dy[j]) * static_cast<double>(y[j]);
    }
  }
  for (std::int64_t j = 0; j < count; ++j) {
    mean[j] /= static_cast<double>(a.rows);
    along[j] /= divisor(a.rows, a.unbiased);
    inverse[j] = factor * a.inverse_std[begin + j];
  }
  for (std::int64_t i = 0; i < a.rows; ++i) {
    const T* y = a.y + i * a.width + begin;
    const T* dy = a.dy + i * a.width + begin;
    T* dx = a.dx + i * a.width + begin;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) {
      dx[j] = static_cast<T>(inverse[j] * (static_cast<double>(dy[j]) - mean[j] -
                                           static_cast<double>(y[j]) * along[j]));
    }
  }
}

template <class T>
void backward(const NormaliseBackward<T>& a) {
  const double factor = static_cast<double>(*a.cotangent) * *a.factor;
  if (a.axis == NormaliseAxis::columns) {
    parallel_for(0, a.width, kColumns, [&](std::int64_t begin, std::int64_t end) {
      backward_columns(a, factor, begin, end - begin);
    });
    return;
  }
  parallel_for(0, a.rows, rows_per_chunk(a.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = i * a.width;
      backward_row(a.y + at, a.dy + at, a.dx + at, a.width, divisor(a.width, a.unbiased),
                   factor * a.inverse_std[i]);
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
