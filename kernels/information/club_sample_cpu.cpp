#include "kernels/information/club_sample.h"

#include "core/parallel.h"
#include "core/permutation.h"
#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
void permute(const Permute<T>& a) {
  const RandomPermutation permutation(a.stream, static_cast<std::uint32_t>(a.count));
  parallel_for(0, a.count, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::uint32_t image = permutation(static_cast<std::uint32_t>(i));
      a.permutation[i] = static_cast<T>(image);
      a.inverse[image] = static_cast<T>(i);
    }
  });
}

template <class T>
double row_sum(const T* mu, const T* logvar, const T* y, const T* negative, std::int64_t width) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t k = 0; k < width; ++k) {
    const T both = (y[k] - mu[k]) + (negative[k] - mu[k]);
    sum += static_cast<double>(cpu::exp(-logvar[k]) * (y[k] - negative[k]) * both);
  }
  return sum;
}

template <class T>
void forward(const ClubSampleForward<T>& a) {
  parallel_for(0, a.rows, rows_per_chunk(a.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = i * a.width;
      a.row_sums[i] =
          row_sum(a.mu + at, a.logvar + at, a.y + at, a.y + a.permutation[i] * a.width, a.width);
    }
  });
  double sum = 0;
  for (std::int64_t i = 0; i < a.rows; ++i) sum += a.row_sums[i];
  *a.value = static_cast<T>(-0.5 * a.scale * sum);
}

template <class T>
void backward_row(const ClubSampleBackward<T>& a, T factor, std::int64_t row) {
  const std::int64_t at = row * a.width, other = a.inverse[row] * a.width;
  const T *mu = a.mu + at, *logvar = a.logvar + at, *y = a.y + at;
  const T* negative = a.y + a.permutation[row] * a.width;
  const T *other_mu = a.mu + other, *other_logvar = a.logvar + other;
  const auto each = [&](T* out, auto&& gradient) {
    if (!out) return;
#pragma omp simd
    for (std::int64_t k = 0; k < a.width; ++k) out[at + k] = factor * gradient(k);
  };
  each(a.dmu, [&](std::int64_t k) { return cpu::exp(-logvar[k]) * (y[k] - negative[k]); });
  each(a.dlogvar, [&](std::int64_t k) {
    const T both = (y[k] - mu[k]) + (negative[k] - mu[k]);
    return T(0.5) * cpu::exp(-logvar[k]) * (y[k] - negative[k]) * both;
  });
  each(a.dy, [&](std::int64_t k) {
    return cpu::exp(-other_logvar[k]) * (y[k] - other_mu[k]) -
           cpu::exp(-logvar[k]) * (y[k] - mu[k]);
  });
}

template <class T>
void backward(const ClubSampleBackward<T>& a) {
  const T factor = static_cast<T>(a.scale) * *a.cotangent;
  parallel_for(0, a.rows, rows_per_chunk(a.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) backward_row(a, factor, i);
  });
}

const RegisterCpu registered{kIsa,
                             &permute<std::int32_t>,
                             &forward<float>,
                             &forward<double>,
                             &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
