#include "kernels/information/gaussian.h"

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr double kLnTwoPi = 1.8378770664093454836;

struct NllOfRow {
  GaussianNllForward<float> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    double sum = 0;
    for (std::int64_t k = first; k < a.width; k += kThreads * N) {
      const std::int64_t at = row * a.width + k;
      const auto mu = load_vector<float, N>(a.mu + at), y = load_vector<float, N>(a.y + at),
                 logvar = load_vector<float, N>(a.logvar + at);
      for (int n = 0; n < N; ++n) {
        const float apart = y[n] - mu[n];
        sum += static_cast<double>(apart * apart * expf(-logvar[n]) + logvar[n]);
      }
    }
    sum = row_reduce<kThreads>(sum, Sum{});
    if (first == 0) a.row_sums[row] = sum + kLnTwoPi * static_cast<double>(a.width);
  }
};

struct NllGradient {
  GaussianNllBackward<float> a;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    const float factor = static_cast<float>(a.scale) * *a.cotangent;
    const auto mu = load_vector<float, N>(a.mu + i), y = load_vector<float, N>(a.y + i),
               logvar = load_vector<float, N>(a.logvar + i);
    Vector<float, N> dmu, dy, dlogvar;
    for (int n = 0; n < N; ++n) {
      const float w = expf(-logvar[n]), apart = y[n] - mu[n];
      dy[n] = factor * w * apart;
      dmu[n] = -dy[n];
      dlogvar[n] = 0.5F * factor * (1.0F - w * apart * apart);
    }
    if (a.dmu != nullptr) store_vector(a.dmu + i, dmu);
    if (a.dlogvar != nullptr) store_vector(a.dlogvar + i, dlogvar);
    if (a.dy != nullptr) store_vector(a.dy + i, dy);
  }
};

void forward(const GaussianNllForward<float>& a) {
  launch_rows(NllOfRow{a}, a.rows, a.width, are_vector_aligned(a.mu, a.logvar, a.y));
  scaled_sum(a.row_sums, a.rows, 1, 0.5 * a.scale, a.value);
}

void backward(const GaussianNllBackward<float>& a) {
  launch_map(NllGradient{a}, 1, a.rows * a.width,
             are_vector_aligned(a.mu, a.logvar, a.y, a.dmu, a.dlogvar, a.dy));
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
