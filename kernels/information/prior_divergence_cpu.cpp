#include "kernels/information/prior_divergence.h"

#include "core/parallel.h"
#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
void forward(const PriorDivergenceForward<T>& a) {
  const std::int64_t grain = rows_per_chunk(a.width);
  parallel_for(0, a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const T *mu = a.mu + i * a.width, *logvar = a.logvar + i * a.width;
      double sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t k = 0; k < a.width; ++k) {
        sum += static_cast<double>(mu[k] * mu[k] + (cpu::exp(logvar[k]) - 1 - logvar[k]));
      }
      a.row_sums[i] = sum;
    }
  });
  double sum = 0;
  for (std::int64_t i = 0; i < a.rows; ++i) sum += a.row_sums[i];
  *a.value = static_cast<T>(0.5 * a.scale * sum);
}

template <class T>
void backward(const PriorDivergenceBackward<T>& a) {
  const T factor = static_cast<T>(a.scale) * *a.cotangent;
  parallel_for(0, a.rows * a.width, 8192, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) {
      a.dmu[i] = factor * a.mu[i];
      a.dlogvar[i] = T(0.5) * factor * (cpu::exp(a.logvar[i]) - 1);
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
