#include "kernels/matrix/gemm.h"

#include "kernels/cuda/blas.h"
#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// beta C, C not being read where beta is 0.
struct ScaledResult {
  float* c;
  std::int64_t ldc;
  float beta;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    for (int k = 0; k < N; ++k) {
      float& c_value = c[row * ldc + column + k];
      c_value = beta == 0 ? 0.0F : beta * c_value;
    }
  }
};

template <class T>
void gemm(const Gemm<T>& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k > 0) return product(g);
  launch_map(ScaledResult{g.c, g.ldc, g.beta}, g.m, g.n, false);
}

const RegisterDevice registered{&gemm<float>, &gemm<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
