#include "kernels/elementwise/activation.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/activation_math.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 4096;  // elements

template <Activation activation, class T>
void forward_loop(const T* x, T* y, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) y[i] = cpu::activate<activation>(x[i]);
}

template <class T>
void forward(const ActivationForward<T>& a) {
  cpu::dispatch_activation(a.activation, [&]<Activation activation>() {
    parallel_for(0, a.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
      forward_loop<activation>(a.x + begin, a.y + begin, end - begin);
    });
  });
}

template <Activation activation, class T>
void backward_loop(const T* dy, const T* saved, T* dx, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) {
    dx[i] = dy[i] * cpu::activation_derivative<activation>(saved[i]);
  }
}

template <class T>
void add_to_sums(const T* row, double* sums, std::int64_t width) {
#pragma omp simd
  for (std::int64_t j = 0; j < width; ++j) sums[j] += static_cast<double>(row[j]);
}

/// dx of some rows and, where wanted, their column sums, row by row while the row is in the
/// first-level cache.
template <Activation activation, class T>
void backward_rows(const ActivationBackward<T>& a, std::int64_t begin, std::int64_t end) {
  double* sums = nullptr;
  if (a.column_sums != nullptr) {
    sums = a.workspace + begin / a.kGrain * a.width;
    std::fill_n(sums, a.width, 0.0);
  }
  for (std::int64_t i = begin * a.width; i < end * a.width; i += a.width) {
    const T* gradient = a.dy + i;
    if constexpr (activation != Activation::none) {
      backward_loop<activation>(gradient, a.saved + i, a.dx + i, a.width);
      gradient = a.dx + i;
    } else if (a.dx != nullptr && a.dx != a.dy) {
      std::copy_n(gradient, a.width, a.dx + i);
    }
    if (sums != nullptr) add_to_sums(gradient, sums, a.width);
  }
}

template <class T>
void merge(const ActivationBackward<T>& a) {
  const std::int64_t chunks = chunk_count(0, a.rows, a.kGrain);
  double* total = a.workspace;
  for (std::int64_t c = 1; c < chunks; ++c) add_to_sums(a.workspace + c * a.width, total, a.width);
  for (std::int64_t j = 0; j < a.width; ++j) {
    a.column_sums[j] = chunks == 0 ? T{0} : static_cast<T>(total[j]);
  }
}

template <class T>
void backward(const ActivationBackward<T>& a) {
  cpu::dispatch_activation(a.activation, [&]<Activation activation>() {
    parallel_for(0, a.rows, a.kGrain, [&](std::int64_t begin, std::int64_t end) {
      backward_rows<activation>(a, begin, end);
    });
  });
  if (a.column_sums != nullptr) merge(a);
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
