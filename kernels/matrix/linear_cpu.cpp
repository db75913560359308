#include "kernels/matrix/linear.h"

#include "core/parallel.h"
#include "kernels/cpu/activation_math.h"
#include "kernels/cpu/dropout_mask.h"
#include "kernels/matrix/blas.h"
#include "kernels/matrix/gemm.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <Activation activation, class T>
void epilogue_row(const T* bias, T* pre_activation, T* y, std::int64_t count) {
  if (bias != nullptr) {
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) y[j] += bias[j];
  }
  if (pre_activation != nullptr) {
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) pre_activation[j] = y[j];
  }
  if constexpr (activation != Activation::none) {
#pragma omp simd
    for (std::int64_t j = 0; j < count; ++j) y[j] = cpu::activate<activation>(y[j]);
  }
}

/// Dropout of rows [r0, r1) and columns [c0, c1): as one range where they are one, since a range
/// costs whole tiles of the mask.
template <class T>
void drop_block(const LinearForward<T>& a, std::int64_t r0, std::int64_t r1, std::int64_t c0,
                std::int64_t c1) {
  if (c1 - c0 == a.out) return cpu::drop_out(a.dropout, a.y, a.y, r0 * a.out, r1 * a.out);
  for (std::int64_t r = r0; r < r1; ++r) {
    cpu::drop_out(a.dropout, a.y, a.y, r * a.out + c0, r * a.out + c1);
  }
}

/// Rows [r0, r1) and columns [c0, c1) of the result.
template <Activation activation, class T>
void block(const LinearForward<T>& a, std::int64_t r0, std::int64_t r1, std::int64_t c0,
           std::int64_t c1) {
  blas_gemm(false, true, r1 - r0, c1 - c0, a.in, SumOf<T>{1}, a.x + r0 * a.in, a.in,
            a.weight + c0 * a.in, a.in, SumOf<T>{0}, a.y + r0 * a.out + c0, a.out);
  const bool plain =
      activation == Activation::none && a.bias == nullptr && a.pre_activation == nullptr;
  for (std::int64_t r = r0; r < r1 && !plain; ++r) {
    const std::int64_t i = r * a.out + c0;
    epilogue_row<activation>(a.bias == nullptr ? nullptr : a.bias + c0,
                             a.pre_activation == nullptr ? nullptr : a.pre_activation + i, a.y + i,
                             c1 - c0);
  }
  if (a.dropout.p > 0) drop_block(a, r0, r1, c0, c1);
}

template <class T>
void linear(const LinearForward<T>& a) {
  const GemmSplit split = GemmSplit::of(a.rows, a.out, a.in);
  cpu::dispatch_activation(a.activation, [&]<Activation activation>() {
    parallel_for(0, split.extent, split.grain, [&](std::int64_t begin, std::int64_t end) {
      if (split.along_rows) {
        block<activation>(a, begin, end, 0, a.out);
      } else {
        block<activation>(a, 0, a.rows, begin, end);
      }
    });
  });
}

const RegisterCpu registered{kIsa, &linear<float>, &linear<double>, &linear<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
