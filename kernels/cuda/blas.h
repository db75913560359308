// Matrix products on a device: cuBLAS and cuBLASLt under nvcc, the CPU's BLAS on the host model.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/matrix/gemm.h"
#include "kernels/matrix/linear.h"

#if defined(__CUDACC__)

#include "kernels/cuda/blas_cuda.h"

#else

#include "kernels/matrix/blas.h"

namespace cmir::kernels::simt {

/// The product of g; k > 0.
template <class T>
void product(const Gemm<T>& g) {
  blas_gemm(g.transpose_a, g.transpose_b, g.m, g.n, g.k, g.alpha, g.a, g.lda, g.b, g.ldb, g.beta,
            g.c, g.ldc);
}

/// a.y = x weight^T, with `bias` its bias and with `relu` the larger of that and 0; in > 0. No
/// other activation, and no pre_activation. False, and nothing done, where the library cannot.
template <class T>
bool linear_product(const LinearForward<T>& a, bool bias, bool relu) {
  blas_gemm(false, true, a.rows, a.out, a.in, 1.0F, a.x, a.in, a.weight, a.in, 0.0F, a.y, a.out);
  for (std::int64_t i = 0; i < a.rows * a.out; ++i) {
    if (bias) a.y[i] += a.bias[i % a.out];
    if (relu && a.y[i] < 0) a.y[i] = 0;
  }
  return true;
}

}  // namespace cmir::kernels::simt

#endif
