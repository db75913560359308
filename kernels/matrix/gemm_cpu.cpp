#include "kernels/matrix/gemm.h"

#include "core/parallel.h"
#include "kernels/matrix/blas.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
void gemm(const Gemm<T>& g) {
  const GemmSplit split = GemmSplit::of(g.m, g.n, g.k);
  parallel_for(0, split.extent, split.grain, [&](std::int64_t begin, std::int64_t end) {
    if (split.along_rows) {
      blas_gemm(g.transpose_a, g.transpose_b, end - begin, g.n, g.k, g.alpha,
                g.a + begin * (g.transpose_a ? 1 : g.lda), g.lda, g.b, g.ldb, g.beta,
                g.c + begin * g.ldc, g.ldc);
    } else {
      blas_gemm(g.transpose_a, g.transpose_b, g.m, end - begin, g.k, g.alpha, g.a, g.lda,
                g.b + begin * (g.transpose_b ? g.ldb : 1), g.ldb, g.beta, g.c + begin, g.ldc);
    }
  });
}

const RegisterCpu registered{kIsa, &gemm<float>, &gemm<double>, &gemm<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
