#include "kernels/information/prior_divergence.h"

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

struct DivergenceOfRow {
  PriorDivergenceForward<float> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    double sum = 0;
    for (std::int64_t k = first; k < a.width; k += kThreads * N) {
      const std::int64_t at = row * a.width + k;
      const auto mu = load_vector<float, N>(a.mu + at),
                 logvar = load_vector<float, N>(a.logvar + at);
      for (int n = 0; n < N; ++n) {
        sum += static_cast<double>(mu[n] * mu[n] + (expf(logvar[n]) - 1.0F - logvar[n]));
      }
    }
    sum = row_reduce<kThreads>(sum, Sum{});
    if (first == 0) a.row_sums[row] = sum;
  }
};

struct DivergenceGradient {
  PriorDivergenceBackward<float> a;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    const float factor = static_cast<float>(a.scale) * *a.cotangent;
    auto mu = load_vector<float, N>(a.mu + i), logvar = load_vector<float, N>(a.logvar + i);
    for (int n = 0; n < N; ++n) {
      mu[n] *= factor;
      logvar[n] = 0.5F * factor * (expf(logvar[n]) - 1.0F);
    }
    store_vector(a.dmu + i, mu);
    store_vector(a.dlogvar + i, logvar);
  }
};

void forward(const PriorDivergenceForward<float>& a) {
  launch_rows(DivergenceOfRow{a}, a.rows, a.width, are_vector_aligned(a.mu, a.logvar));
  scaled_sum(a.row_sums, a.rows, 1, 0.5 * a.scale, a.value);
}

void backward(const PriorDivergenceBackward<float>& a) {
  launch_map(DivergenceGradient{a}, 1, a.rows * a.width,
             are_vector_aligned(a.mu, a.logvar, a.dmu, a.dlogvar));
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
