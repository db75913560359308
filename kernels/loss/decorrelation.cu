#include "kernels/loss/decorrelation.h"

#include <limits>

#include "kernels/cuda/rows.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr LaunchConfig kOneBlock{.grid = dim3(1), .block = dim3(kSumThreads)};

/// Weighs a row of C and leaves the sum of its squares.
struct WeighedRow {
  CrossNorm<float> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const double weight = a.alpha * a.alpha;
    const auto weight_f32 = static_cast<float>(weight);
    float* c = a.c + row * a.n;
    double sum = 0, diagonal = 0;
    for (std::int64_t j = first; j < a.n; j += kThreads * N) {
      auto v = load_vector<float, N>(c + j);
      for (int k = 0; k < N; ++k) {
        const double square = static_cast<double>(v[k]) * static_cast<double>(v[k]);
        if (j + k == row) {
          diagonal = square;
        } else {
          sum += square;
          v[k] *= weight_f32;
        }
      }
      store_vector(c + j, v);
    }
    sum = row_reduce<kThreads>(weight * sum + diagonal, Sum{});
    if (first == 0) a.row_sums[row] = sum;
  }
};

__global__ void cross_norm_kernel(CrossNorm<float> a) {
  const double norm = sqrt(strided_sum(a.row_sums, a.n, 1));
  if (threadIdx.x > 0) return;
  *a.value = static_cast<float>(a.scale * norm);
  *a.factor = norm == 0 ? 0.0 : a.scale / norm;
}

/// <x, y>, <x, x> and <y, y> of a row, in each of its threads.
struct Dots {
  double xy = 0, xx = 0, yy = 0;
};
template <int kThreads, int N, class T>
__device__ Dots row_dots(const T* x, const float* y, std::int64_t width, std::int64_t first) {
  Dots dots;
  for (std::int64_t j = first; j < width; j += kThreads * N) {
    const auto x_vector = load_vector<T, N>(x + j);
    const auto y_vector = load_vector<float, N>(y + j);
    for (int k = 0; k < N; ++k) {
      const auto p = static_cast<double>(static_cast<float>(x_vector[k])),
                 q = static_cast<double>(y_vector[k]);
      dots.xy += p * q;
      dots.xx += p * p;
      dots.yy += q * q;
    }
  }
  dots.xy = row_reduce<kThreads>(dots.xy, Sum{});
  dots.xx = row_reduce<kThreads>(dots.xx, Sum{});
  dots.yy = row_reduce<kThreads>(dots.yy, Sum{});
  return dots;
}

template <class T>
struct DotOfRow {
  RowDot<T> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const std::int64_t at = row * a.width;
    const Dots dots = row_dots<kThreads, N>(a.a + at, a.b + at, a.width, first);
    if (first == 0) a.diagonal[row] = static_cast<float>(dots.xy);
  }
};

struct DotsOfGramRow {
  GramNorm<float> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const std::int64_t at = row * a.d;
    const Dots dots = row_dots<kThreads, N>(a.gram_a + at, a.gram_b + at, a.d, first);
    if (first > 0) return;
    a.row_sums[3 * row] = dots.xy;
    a.row_sums[3 * row + 1] = dots.xx;
    a.row_sums[3 * row + 2] = dots.yy;
  }
};

__global__ void gram_norm_kernel(GramNorm<float> a) {
  const double xy = strided_sum(a.row_sums, a.d, 3), xx = strided_sum(a.row_sums + 1, a.d, 3),
               yy = strided_sum(a.row_sums + 2, a.d, 3);
  double diagonal = 0;
  for (std::int64_t i = threadIdx.x; a.diagonal != nullptr && i < a.rows; i += kSumThreads) {
    diagonal += static_cast<double>(a.diagonal[i]) * static_cast<double>(a.diagonal[i]);
  }
  diagonal = block_reduce(diagonal, Sum{});
  if (threadIdx.x > 0) return;
  const double weight = a.alpha * a.alpha;
  const double square = weight * xy + (1 - weight) * diagonal;
  const double resolution = std::numeric_limits<float>::epsilon() * weight * sqrt(xx * yy);
  *a.value = static_cast<float>(a.scale * sqrt(square < 0 ? 0.0 : square));  // NaN stays NaN
  const double floored = square < resolution ? resolution : square;
  *a.factor = floored == 0 ? 0.0 : a.scale / sqrt(floored);
}

void cross_norm(const CrossNorm<float>& a) {
  launch_rows(WeighedRow{a}, a.n, a.n, are_vector_aligned(a.c));
  launch(cross_norm_kernel, kOneBlock, a);
}

template <class T>
void row_dot(const RowDot<T>& a) {
  const bool aligned = is_vector_aligned<kVectorSize<float>>(a.a) && are_vector_aligned(a.b);
  launch_rows(DotOfRow<T>{a}, a.rows, a.width, aligned);
}

void gram_norm(const GramNorm<float>& a) {
  launch_rows(DotsOfGramRow{a}, a.d, a.d, are_vector_aligned(a.gram_a, a.gram_b));
  launch(gram_norm_kernel, kOneBlock, a);
}

const RegisterDevice registered{&cross_norm, &row_dot<float>, &row_dot<BFloat16>, &gram_norm};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
