#include "kernels/information/pair_bound.h"

#include <limits>

#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr int kThreads = 1024;

/// One block.
__global__ void __launch_bounds__(kThreads) pair_bound_kernel(PairBoundForward<float> a) {
  const PairTotals<float>& t = a.totals;
  float most = -std::numeric_limits<float>::infinity();
  for (std::int64_t i = threadIdx.x; i < t.n; i += kThreads) most = fmaxf(most, t.row_largest[i]);
  const auto largest = static_cast<double>(block_reduce(most, Maximum{}));
  double sum = 0, diagonal = 0;
  for (std::int64_t i = threadIdx.x; i < t.n; i += kThreads) {
    sum += t.row_sum[i] * exp(static_cast<double>(t.row_largest[i]) - largest);
    diagonal += static_cast<double>(t.diagonal[i]);
  }
  sum = block_reduce(sum, Sum{});
  diagonal = block_reduce(diagonal, Sum{});
  CMIR_SHARED(double, log_denominator, [1]);
  if (threadIdx.x == 0) log_denominator[0] = a.finish(largest, sum, diagonal);
  __syncthreads();
  if (a.weights.row_weight == nullptr) return;
  for (std::int64_t i = threadIdx.x; i < t.n; i += kThreads) a.weigh(i, log_denominator[0]);
}

void forward(const PairBoundForward<float>& a) {
  launch(pair_bound_kernel, {.grid = dim3(1), .block = dim3(kThreads)}, a);
}
const RegisterDevice registered{&forward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
