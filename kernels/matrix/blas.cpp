#include "kernels/matrix/blas.h"

#include <cblas.h>

#include <algorithm>
#include <limits>

#include "core/error.h"

namespace cmir::kernels {
namespace {

blasint narrow(std::int64_t size) {
  require(size <= std::numeric_limits<blasint>::max(), "gemm",
          "a size of {} exceeds what the BLAS can address ({}); split the matrix", size,
          std::numeric_limits<blasint>::max());
  return static_cast<blasint>(size);
}

CBLAS_TRANSPOSE op(bool transpose) { return transpose ? CblasTrans : CblasNoTrans; }

template <class T, class Function>
void call(Function function, bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n,
          std::int64_t k, T alpha, const T* a, std::int64_t lda, const T* b, std::int64_t ldb,
          T beta, T* c, std::int64_t ldc) {
  [[maybe_unused]] static const bool single_threaded = (openblas_set_num_threads(1), true);
  if (m == 0 || n == 0) return;
  // BLAS wants leading dimensions of at least 1 even where the matrix is empty.
  function(CblasRowMajor, op(transpose_a), op(transpose_b), narrow(m), narrow(n), narrow(k), alpha,
           a, narrow(std::max<std::int64_t>(lda, 1)), b, narrow(std::max<std::int64_t>(ldb, 1)),
           beta, c, narrow(std::max<std::int64_t>(ldc, 1)));
}

}  // namespace

void blas_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
               float beta, float* c, std::int64_t ldc) {
  call(cblas_sgemm, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void blas_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               double alpha, const double* a, std::int64_t lda, const double* b, std::int64_t ldb,
               double beta, double* c, std::int64_t ldc) {
  call(cblas_dgemm, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

}  // namespace cmir::kernels
