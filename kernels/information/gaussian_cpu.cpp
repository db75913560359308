#include "kernels/information/gaussian.h"

#include "core/parallel.h"
#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
double row_sum(const T* mu, const T* logvar, const T* y, std::int64_t width) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t k = 0; k < width; ++k) {
    const T apart = y[k] - mu[k];
    sum += static_cast<double>(apart * apart * cpu::exp(-logvar[k]) + logvar[k]);
  }
  return sum;
}

template <class T>
void forward(const GaussianNllForward<T>& a) {
  parallel_for(0, a.rows, rows_per_chunk(a.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = i * a.width;
      a.row_sums[i] = row_sum(a.mu + at, a.logvar + at, a.y + at, a.width);
    }
  });
  double sum = 0;
  for (std::int64_t i = 0; i < a.rows; ++i) sum += a.row_sums[i];
  constexpr double ln_two_pi = 1.8378770664093454836;
  sum += ln_two_pi * static_cast<double>(a.rows * a.width);
  *a.value = static_cast<T>(0.5 * a.scale * sum);
}

template <class T>
void backward(const GaussianNllBackward<T>& a) {
  const T factor = static_cast<T>(a.scale) * *a.cotangent;
  parallel_for(0, a.rows * a.width, 8192, [&](std::int64_t begin, std::int64_t end) {
    const T *mu = a.mu, *logvar = a.logvar, *y = a.y;
    const auto write = [&](T* out, T sign) {
      if (!out) return;
#pragma omp simd
      for (std::int64_t i = begin; i < end; ++i) {
        out[i] = sign * cpu::exp(-logvar[i]) * (mu[i] - y[i]);
      }
    };
    write(a.dmu, factor);
    write(a.dy, -factor);
    T* dlogvar = a.dlogvar;
    if (!dlogvar) return;
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      const T apart = y[i] - mu[i];
      dlogvar[i] = T(0.5) * factor * (1 - cpu::exp(-logvar[i]) * apart * apart);
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
