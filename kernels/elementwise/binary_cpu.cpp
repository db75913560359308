#include "kernels/elementwise/binary.h"

#include <algorithm>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 16384;  // elements of a

template <BinaryOperation operation, class T>
T apply(T a, T b) {
  if constexpr (operation == BinaryOperation::add) return a + b;
  if constexpr (operation == BinaryOperation::subtract) return a - b;
  if constexpr (operation == BinaryOperation::multiply) return a * b;
}

/// A flat range of a, which may start and end within a row, taken row piece by row piece.
template <BinaryOperation operation, class T>
void range(const Binary<T>& f, std::int64_t begin, std::int64_t end) {
  if (f.width == 1) {
    const T b = f.b[0];
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) f.y[i] = apply<operation>(f.a[i], b);
    return;
  }
  std::int64_t column = begin % f.width;
  for (std::int64_t i = begin; i < end; column = 0) {
    const std::int64_t count = std::min(end - i, f.width - column);
    const T *a = f.a + i, *b = f.b + column;
    T* y = f.y + i;
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) y[j] = apply<operation>(a[j], b[j]);
    i += count;
  }
}

template <class T>
void binary(const Binary<T>& f) {
  const auto loop = [&]<BinaryOperation operation>() {
    parallel_for(0, f.rows * f.width, kGrain,
                 [&](std::int64_t begin, std::int64_t end) { range<operation>(f, begin, end); });
  };
  switch (f.operation) {
    case BinaryOperation::add:
      return loop.template operator()<BinaryOperation::add>();
    case BinaryOperation::subtract:
      return loop.template operator()<BinaryOperation::subtract>();
    case BinaryOperation::multiply:
      return loop.template operator()<BinaryOperation::multiply>();
  }
}

const RegisterCpu registered{kIsa, &binary<float>, &binary<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
