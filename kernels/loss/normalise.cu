#include "kernels/loss/normalise.h"

#include <algorithm>

#include "kernels/cuda/rows.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr int kColumns = 32;  // of a block that normalises columns
constexpr int kWalkers = 8;   // threads that share a column, taking every eighth row

/// What the variance is divided by.
double divisor(std::int64_t count, bool unbiased) {
  return static_cast<double>(unbiased ? std::max<std::int64_t>(count - 1, 1) : count);
}

__device__ double inverse_std(double variance, double epsilon) {
  const double sum = variance + epsilon;
  return sum == 0 ? 0.0 : 1 / sqrt(sum);
}

struct NormalisedRow {
  NormaliseForward<float> a;
  double variance_divisor;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const float* x = a.x + row * a.width;
    double sum = 0, squares = 0;
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      const auto v = load_vector<float, N>(x + j);
      for (int k = 0; k < N; ++k) sum += static_cast<double>(v[k]);
    }
    const double mean = row_reduce<kThreads>(sum, Sum{}) / static_cast<double>(a.width);
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      const auto v = load_vector<float, N>(x + j);
      for (int k = 0; k < N; ++k) {
        const double centred = static_cast<double>(v[k]) - mean;
        squares += centred * centred;
      }
    }
    const double variance = row_reduce<kThreads>(squares, Sum{}) / variance_divisor;
    const double inverse = inverse_std(variance, a.epsilon);
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      auto v = load_vector<float, N>(x + j);
      for (int k = 0; k < N; ++k) {
        v[k] = static_cast<float>((static_cast<double>(v[k]) - mean) * inverse);
      }
      store_vector(a.y + row * a.width + j, v);
    }
    if (first == 0) a.inverse_std[row] = inverse;
  }
};

/// The sum over the threads that share a column, in their order, in each of them.
__device__ double column_sum(double value) {
  CMIR_SHARED(double, part, [kWalkers][kColumns]);
  __syncthreads();  // everyone has read what the previous call left here
  part[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  double sum = 0;
  for (int walker = 0; walker < kWalkers; ++walker) sum += part[walker][threadIdx.x];
  return sum;
}

/// Calls f(i) for the elements of the thread's column that it takes.
template <class F>
__device__ void for_each_of_column(std::int64_t rows, std::int64_t width, F&& f) {
  const std::int64_t column = std::int64_t{blockIdx.x} * kColumns + threadIdx.x;
  if (column >= width) return;
  for (std::int64_t r = threadIdx.y; r < rows; r += kWalkers) f(r * width + column);
}

__global__ void normalise_columns_kernel(NormaliseForward<float> a, double variance_divisor) {
  double sum = 0, squares = 0;
  for_each_of_column(a.rows, a.width, [&](std::int64_t i) { sum += static_cast<double>(a.x[i]); });
  const double mean = column_sum(sum) / static_cast<double>(a.rows);
  for_each_of_column(a.rows, a.width, [&](std::int64_t i) {
    const double centred = static_cast<double>(a.x[i]) - mean;
    squares += centred * centred;
  });
  const double inverse = inverse_std(column_sum(squares) / variance_divisor, a.epsilon);
  for_each_of_column(a.rows, a.width, [&](std::int64_t i) {
    a.y[i] = static_cast<float>((static_cast<double>(a.x[i]) - mean) * inverse);
  });
  const std::int64_t column = std::int64_t{blockIdx.x} * kColumns + threadIdx.x;
  if (threadIdx.y == 0 && column < a.width) a.inverse_std[column] = inverse;
}

/// dx of one element: `along` is the part of dy in the direction of y.
__device__ float dx_of(double inverse, float dy, double mean, float y, double along) {
  return static_cast<float>(inverse *
                            (static_cast<double>(dy) - mean - static_cast<double>(y) * along));
}

struct NormalisedRowBackward {
  NormaliseBackward<float> a;
  double variance_divisor;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const float *y = a.y + row * a.width, *dy = a.dy + row * a.width;
    double sum = 0, product = 0;
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      const auto p = load_vector<float, N>(dy + j), q = load_vector<float, N>(y + j);
      for (int k = 0; k < N; ++k) {
        sum += static_cast<double>(p[k]);
        product += static_cast<double>(p[k]) * static_cast<double>(q[k]);
      }
    }
    const double mean = row_reduce<kThreads>(sum, Sum{}) / static_cast<double>(a.width);
    const double along = row_reduce<kThreads>(product, Sum{}) / variance_divisor;
    const double inverse = static_cast<double>(*a.cotangent) * *a.factor * a.inverse_std[row];
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      auto p = load_vector<float, N>(dy + j);
      const auto q = load_vector<float, N>(y + j);
      for (int k = 0; k < N; ++k) p[k] = dx_of(inverse, p[k], mean, q[k], along);
      store_vector(a.dx + row * a.width + j, p);
    }
  }
};

__global__ void normalise_columns_backward_kernel(NormaliseBackward<float> a,
                                                  double variance_divisor) {
  double sum = 0, product = 0;
  for_each_of_column(a.rows, a.width, [&](std::int64_t i) {
    sum += static_cast<double>(a.dy[i]);
    product += static_cast<double>(a.dy[i]) * static_cast<double>(a.y[i]);
  });
  const double mean = column_sum(sum) / static_cast<double>(a.rows);
  const double along = column_sum(product) / variance_divisor;
  const double factor = static_cast<double>(*a.cotangent) * *a.factor;
  for_each_of_column(a.rows, a.width, [&](std::int64_t i) {
    a.dx[i] = dx_of(factor * a.inverse_std[i % a.width], a.dy[i], mean, a.y[i], along);
  });
}

LaunchConfig columns_configuration(std::int64_t width) {
  return {.grid = dim3(static_cast<unsigned>((width + kColumns - 1) / kColumns)),
          .block = dim3(kColumns, kWalkers)};
}

void forward(const NormaliseForward<float>& a) {
  if (a.axis == NormaliseAxis::columns) {
    if (a.width == 0) return;
    launch(normalise_columns_kernel, columns_configuration(a.width), a,
           divisor(a.rows, a.unbiased));
  } else {
    launch_rows(NormalisedRow{a, divisor(a.width, a.unbiased)}, a.rows, a.width,
                are_vector_aligned(a.x, a.y));
  }
}

void backward(const NormaliseBackward<float>& a) {
  if (a.axis == NormaliseAxis::columns) {
    if (a.width == 0) return;
    launch(normalise_columns_backward_kernel, columns_configuration(a.width), a,
           divisor(a.rows, a.unbiased));
  } else {
    launch_rows(NormalisedRowBackward{a, divisor(a.width, a.unbiased)}, a.rows, a.width,
                are_vector_aligned(a.y, a.dy, a.dx));
  }
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
