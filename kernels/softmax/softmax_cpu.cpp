#include "kernels/softmax/softmax.h"

#include "core/parallel.h"
#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
void softmax_row(const T* x, T* y, std::int64_t length, std::int64_t width) {
  T maximum = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : maximum)
  for (std::int64_t j = 0; j < length; ++j) maximum = x[j] > maximum ? x[j] : maximum;
  // No logit above -inf: exp(-inf - 0) = 0 throughout, while NaN stays NaN.
  const T shift = maximum == -std::numeric_limits<T>::infinity() ? T{0} : maximum;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < length; ++j) {
    y[j] = cpu::exp(x[j] - shift);
    sum += y[j];
  }
  const T scale = sum == T{0} ? T{0} : T{1} / sum;
#pragma omp simd
  for (std::int64_t j = 0; j < length; ++j) y[j] *= scale;
  std::fill(y + length, y + width, T{0});
}

template <class T>
void forward(const SoftmaxForward<T>& a) {
  parallel_for(0, a.rows, softmax_grain(a.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      softmax_row(a.x + r * a.width, a.y + r * a.width,
                  a.lengths != nullptr ? a.lengths[r] : a.width, a.width);
    }
  });
}

template <class T>
void backward(const SoftmaxBackward<T>& a) {
  parallel_for(0, a.rows, softmax_grain(a.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      const T* y = a.y + r * a.width;
      const T* dy = a.dy + r * a.width;
      T* dx = a.dx + r * a.width;
      const std::int64_t length = a.lengths != nullptr ? a.lengths[r] : a.width;
      T dot = 0;
#pragma omp simd reduction(+ : dot)
      for (std::int64_t j = 0; j < length; ++j) dot += y[j] * dy[j];
#pragma omp simd
      for (std::int64_t j = 0; j < length; ++j) dx[j] = y[j] * (dy[j] - dot);
      std::fill(dx + length, dx + a.width, T{0});
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
