#include "kernels/matrix/blas.h"

#include <cblas.h>
#ifdef CMIR_ONEDNN
#include <dnnl.h>
#include <omp.h>
#endif

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"

namespace cmir::kernels {
namespace {

blasint narrow(std::int64_t size) {
  require(size <= std::numeric_limits<blasint>::max(), "gemm",
          "a size of {} exceeds what the BLAS can address ({}); split the matrix", size,
          std::numeric_limits<blasint>::max());
  return static_cast<blasint>(size);
}

/// A part [rows, columns] of a stored matrix, widened.
void widen(const BFloat16* from, std::int64_t stride, std::int64_t rows, std::int64_t columns,
           float* to) {
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      to[i * columns + j] = static_cast<float>(from[i * stride + j]);
    }
  }
}

/// The part of op(stored) at (row, column), [rows, columns], widened: stored as it was, transposed
/// or not. Returns its leading dimension.
std::int64_t widen_part(bool transpose, const BFloat16* stored, std::int64_t stride,
                        std::int64_t row, std::int64_t column, std::int64_t rows,
                        std::int64_t columns, float* to) {
  if (transpose) {
    std::swap(row, column);
    std::swap(rows, columns);
  }
  widen(stored + row * stride + column, stride, rows, columns, to);
  return columns;
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

#ifdef CMIR_ONEDNN
namespace {

/// This thread's OpenMP regions have one thread while it lives.
class SingleThreaded {
 public:
  SingleThreaded() { omp_set_num_threads(1); }
  ~SingleThreaded() { omp_set_num_threads(before_); }
  SingleThreaded(const SingleThreaded&) = delete;
  SingleThreaded& operator=(const SingleThreaded&) = delete;

 private:
  const int before_ = omp_get_max_threads();
};

}  // namespace

void blas_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
               float beta, float* c, std::int64_t ldc) {
  if (m == 0 || n == 0 || k == 0) {  // dnnl_sgemm leaves C as it is where k = 0
    return call(cblas_sgemm, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c,
                ldc);
  }
  const SingleThreaded scope;
  const auto at_least_one = [](std::int64_t size) { return std::max<std::int64_t>(size, 1); };
  const dnnl_status_t status =
      dnnl_sgemm(transpose_a ? 'T' : 'N', transpose_b ? 'T' : 'N', m, n, k, alpha, a,
                 at_least_one(lda), b, at_least_one(ldb), beta, c, at_least_one(ldc));
  require(status == dnnl_success, "gemm", "oneDNN's dnnl_sgemm fails with status {}",
          static_cast<int>(status));
}
#else
void blas_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
               float beta, float* c, std::int64_t ldc) {
  call(cblas_sgemm, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
#endif
void blas_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               double alpha, const double* a, std::int64_t lda, const double* b, std::int64_t ldb,
               double beta, double* c, std::int64_t ldc) {
  call(cblas_dgemm, transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
void blas_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               float alpha, const BFloat16* a, std::int64_t lda, const BFloat16* b,
               std::int64_t ldb, float beta, float* c, std::int64_t ldc) {
  constexpr std::int64_t kRows = 64, kColumns = 128, kDepth = 256;
  alignas(64) float a_part[kRows * kDepth], b_part[kDepth * kColumns];
  for (std::int64_t j = 0; j < n; j += kColumns) {
    const std::int64_t columns = std::min(kColumns, n - j);
    for (std::int64_t l = 0; l == 0 || l < k; l += kDepth) {  // once at least, for beta
      const std::int64_t depth = std::min(kDepth, k - l);
      const auto b_stride = widen_part(transpose_b, b, ldb, l, j, depth, columns, b_part);
      for (std::int64_t i = 0; i < m; i += kRows) {
        const std::int64_t rows = std::min(kRows, m - i);
        const auto a_stride = widen_part(transpose_a, a, lda, i, l, rows, depth, a_part);
        blas_gemm(transpose_a, transpose_b, rows, columns, depth, alpha, a_part, a_stride, b_part,
                  b_stride, l == 0 ? beta : 1.0F, c + i * ldc + j, ldc);
      }
    }
  }
}

}  // namespace cmir::kernels
