#include "kernels/information/unit_rows.h"

#include "kernels/cuda/rows.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// x . y of a row, in each of its threads.
template <int kThreads, int N>
__device__ double row_dot(const float* x, const float* y, std::int64_t width, std::int64_t first) {
  double sum = 0;
  for (std::int64_t k = first; k < width; k += kThreads * N) {
    const auto p = load_vector<float, N>(x + k), q = load_vector<float, N>(y + k);
    for (int n = 0; n < N; ++n) sum += static_cast<double>(p[n]) * static_cast<double>(q[n]);
  }
  return row_reduce<kThreads>(sum, Sum{});
}

struct UnitRow {
  UnitRowsForward<float> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const float* x = a.x + row * a.width;
    const double norm = sqrt(row_dot<kThreads, N>(x, x, a.width, first));
    const double inverse = norm == 0 ? 0.0 : 1 / norm;
    if (first == 0) a.inverse_norm[row] = inverse;
    for (std::int64_t k = first; k < a.width; k += kThreads * N) {
      auto v = load_vector<float, N>(x + k);
      for (int n = 0; n < N; ++n) v[n] = static_cast<float>(static_cast<double>(v[n]) * inverse);
      store_vector(a.y + row * a.width + k, v);
    }
  }
};

struct UnitRowGradient {
  UnitRowsBackward<float> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const float *y = a.y + row * a.width, *dy = a.dy + row * a.width;
    const double along = row_dot<kThreads, N>(y, dy, a.width, first);
    const double inverse = a.inverse_norm[row];
    for (std::int64_t k = first; k < a.width; k += kThreads * N) {
      const auto p = load_vector<float, N>(y + k);
      auto v = load_vector<float, N>(dy + k);
      for (int n = 0; n < N; ++n) {
        const double across = static_cast<double>(v[n]) - along * static_cast<double>(p[n]);
        v[n] = static_cast<float>(inverse * across);
      }
      store_vector(a.dx + row * a.width + k, v);
    }
  }
};

void forward(const UnitRowsForward<float>& a) {
  launch_rows(UnitRow{a}, a.rows, a.width, are_vector_aligned(a.x, a.y));
}
void backward(const UnitRowsBackward<float>& a) {
  launch_rows(UnitRowGradient{a}, a.rows, a.width, are_vector_aligned(a.y, a.dy, a.dx));
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
