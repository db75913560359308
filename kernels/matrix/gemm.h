// Matrix product: C = alpha op(A) op(B) + beta C
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// How a product with an [m, n] result is divided among threads: into chunks of `grain` rows or
/// columns of the result. A function of the shape only, so the bits do not depend on the thread
/// count. The longer side is cut, since every chunk packs the whole of the other operand again; a
/// chunk is at least 32 wide and has at least 2 Mflop, to outweigh that and the wake-up of a thread
/// (estimates: no other values were timed).
struct GemmSplit {
  bool along_rows;
  std::int64_t extent, grain;

  static GemmSplit of(std::int64_t m, std::int64_t n, std::int64_t k) {
    constexpr double kChunkOperations = 2e6;
    constexpr std::int64_t kMinimum = 32, kMultiple = 16;
    const bool along_rows = m >= n;
    const std::int64_t extent = std::max(m, n);
    const auto by_work = static_cast<std::int64_t>(2.0 * m * n * k / kChunkOperations);
    const std::int64_t chunks = std::max<std::int64_t>(1, std::min(by_work, extent / kMinimum));
    const std::int64_t length = (extent + chunks - 1) / chunks;
    return {along_rows, extent,
            std::max<std::int64_t>(1, (length + kMultiple - 1) / kMultiple * kMultiple)};
  }
};

/// C = alpha op(A) op(B) + beta C with op(A) [m, k], op(B) [k, n], C [m, n], all row-major; op
/// transposes where the flag says so. lda, ldb, ldc: elements from one row of the stored matrix to
/// the next. C is overwritten (beta 0: not read) or accumulated into; k = 0 leaves beta C. C must
/// not overlap A or B. Computed by the BLAS, whose edge tiles may add in
/// another order than its inner ones: a row's last bits may depend on m and n (but never on the
/// thread count). With T = BFloat16, A and B are bf16, and all else is f32, the sums too. On CUDA
/// by cuBLAS, summed in f32; only with `tf32` it may round A and B to TF32's 10 bits first. The CPU
/// and the host model take no notice of tf32. Bytes: (m k + k n) sizeof(T) + (1 or 2) m n
/// sizeof(C). Operations: 2 m n k.
template <class T>
struct Gemm {
  static constexpr std::string_view name = "gemm";
  bool transpose_a = false, transpose_b = false;
  std::int64_t m, n, k;
  SumOf<T> alpha = 1;
  const T* a;
  std::int64_t lda;
  const T* b;
  std::int64_t ldb;
  SumOf<T> beta = 0;
  SumOf<T>* c;
  std::int64_t ldc;
  bool tf32 = false;

  double bytes() const {
    return sizeof(T) * (1.0 * m * k + 1.0 * k * n) +
           sizeof(SumOf<T>) * (beta == 0 ? 1.0 : 2.0) * m * n;
  }
  double operations() const { return 2.0 * m * n * k; }
};

}  // namespace cmir::kernels
