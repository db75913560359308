#include "kernels/elementwise/axpy.h"

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 16384;

template <class T>
void axpy(const Axpy<T>& a) {
  parallel_for(0, a.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const T alpha = a.alpha;
    const T* x = a.x;
    T* y = a.y;
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) y[i] += alpha * x[i];
  });
}

template <class T>
void scale(const Scale<T>& a) {
  parallel_for(0, a.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    const T alpha = a.alpha;
    const T* x = a.x;
    T* y = a.y;
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) y[i] = alpha * x[i];
  });
}

const RegisterCpu registered{kIsa, &axpy<float>, &axpy<double>, &scale<float>, &scale<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
