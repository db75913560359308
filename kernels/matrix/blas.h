// The tuned BLAS, called on the calling thread only: the one place that knows it. f32 products are
// oneDNN's where the build found it, 1.3 to 1.6 times as fast as OpenBLAS's at our sizes
// (bench/results); f64, which oneDNN lacks, is OpenBLAS's.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace cmir::kernels {

/// C = alpha op(A) op(B) + beta C, row-major, without threads of its own; our parallel_for splits
/// the work. op(A) is [m, k], op(B) is [k, n]; C is not read when beta is 0. Where OpenBLAS
/// multiplies, a size or leading dimension beyond 2^31 - 1 is an Error.
void blas_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               float alpha, const float* a, std::int64_t lda, const float* b, std::int64_t ldb,
               float beta, float* c, std::int64_t ldc);
void blas_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               double alpha, const double* a, std::int64_t lda, const double* b, std::int64_t ldb,
               double beta, double* c, std::int64_t ldc);
/// Widens blocks of A and B to f32 on the stack (192 KiB) and multiplies those, so that it takes
/// longer than in f32. Sums over blocks of the depth in order.
void blas_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
               float alpha, const BFloat16* a, std::int64_t lda, const BFloat16* b,
               std::int64_t ldb, float beta, float* c, std::int64_t ldc);

}  // namespace cmir::kernels
