#include "kernels/norm/layer_norm.h"

#include <cmath>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// A row s of what is normalised, its first value, and the sum of its values less that.
template <class T>
struct FirstLook {
  const T* s;
  T origin;
  T sum;
};

/// Of row r, in one loop that also makes the row where it is a sum.
template <class T>
FirstLook<T> first_look(const LayerNormForward<T>& a, std::int64_t r) {
  const std::int64_t width = a.width;
  const T* x = a.x + r * width;
  T origin = width > 0 ? x[0] : T{0};
  T sum = 0;
  if (a.residual == nullptr) {
#pragma omp simd reduction(+ : sum)
    for (std::int64_t j = 0; j < width; ++j) sum += x[j] - origin;
    return {x, origin, sum};
  }
  const T* residual = a.residual + r * width;
  T* s = (a.sum != nullptr ? a.sum : a.y) + r * width;
  if (width > 0) origin += residual[0];
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < width; ++j) {
    s[j] = x[j] + residual[j];
    sum += s[j] - origin;
  }
  return {s, origin, sum};
}

template <class T>
void forward(const LayerNormForward<T>& a) {
  parallel_for(0, a.rows, layer_norm_grain(a.rows), [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t width = a.width;
    const T* gamma = a.gamma;
    const T* beta = a.beta;
    for (std::int64_t r = begin; r < end; ++r) {
      const FirstLook<T> look = first_look(a, r);
      const T* x = look.s;
      T* y = a.y + r * width;
      const T mean = look.origin + look.sum / static_cast<T>(width);
      T squares = 0;
#pragma omp simd reduction(+ : squares)
      for (std::int64_t j = 0; j < width; ++j) squares += (x[j] - mean) * (x[j] - mean);
      const T rstd = T{1} / std::sqrt(squares / static_cast<T>(width) + a.epsilon);
#pragma omp simd
      for (std::int64_t j = 0; j < width; ++j) y[j] = (x[j] - mean) * rstd * gamma[j] + beta[j];
      a.mean[r] = mean;
      a.rstd[r] = rstd;
    }
  });
}

template <class T>
void backward(const LayerNormBackward<T>& a) {
  const std::int64_t width = a.width;
  const std::int64_t grain = layer_norm_grain(a.rows);
  parallel_for(0, a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    const T* gamma = a.gamma;
    T* dgamma = a.workspace + begin / grain * 2 * width;
    T* dbeta = dgamma + width;
    std::fill_n(dgamma, 2 * width, T{0});
    for (std::int64_t r = begin; r < end; ++r) {
      const T* x = a.x + r * width;
      const T* dy = a.dy + r * width;
      T* dx = a.dx + r * width;
      const T mean = a.mean[r], rstd = a.rstd[r];
      T sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
      for (std::int64_t j = 0; j < width; ++j) {
        const T n = (x[j] - mean) * rstd;
        dgamma[j] += dy[j] * n;
        dbeta[j] += dy[j];
        sum_g += gamma[j] * dy[j];
        sum_gn += gamma[j] * dy[j] * n;
      }
      const T mean_g = sum_g / static_cast<T>(width), mean_gn = sum_gn / static_cast<T>(width);
      const auto gradient = [&](std::int64_t j) {
        return rstd * (gamma[j] * dy[j] - mean_g - (x[j] - mean) * rstd * mean_gn);
      };
      if (a.arrived == nullptr) {
#pragma omp simd
        for (std::int64_t j = 0; j < width; ++j) dx[j] = gradient(j);
      } else {
        const T* arrived = a.arrived + r * width;
#pragma omp simd
        for (std::int64_t j = 0; j < width; ++j) dx[j] = arrived[j] + gradient(j);
      }
    }
  });
  std::fill_n(a.dgamma, width, T{0});
  std::fill_n(a.dbeta, width, T{0});
  const std::int64_t chunks = chunk_count(0, a.rows, grain);
  for (std::int64_t c = 0; c < chunks; ++c) {
    const T* part = a.workspace + c * 2 * width;
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) {
      a.dgamma[j] += part[j];
      a.dbeta[j] += part[width + j];
    }
  }
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
