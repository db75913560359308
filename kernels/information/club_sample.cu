#include "kernels/information/club_sample.h"

#include "core/permutation.h"
#include "kernels/cuda/map.cuh"
#include "kernels/cuda/rows.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

struct Image {
  Permute<std::int32_t> a;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    const RandomPermutation permutation(a.stream, static_cast<std::uint32_t>(a.count));
    const std::uint32_t image = permutation(static_cast<std::uint32_t>(i));
    a.permutation[i] = static_cast<std::int32_t>(image);
    a.inverse[image] = static_cast<std::int32_t>(i);
  }
};

struct SampleRow {
  ClubSampleForward<float> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const std::int64_t at = row * a.width, of_negative = a.permutation[row] * a.width;
    double sum = 0;
    for (std::int64_t k = first; k < a.width; k += kThreads * N) {
      const auto mu = load_vector<float, N>(a.mu + at + k), y = load_vector<float, N>(a.y + at + k),
                 logvar = load_vector<float, N>(a.logvar + at + k),
                 negative = load_vector<float, N>(a.y + of_negative + k);
      for (int n = 0; n < N; ++n) {
        const float both = (y[n] - mu[n]) + (negative[n] - mu[n]);
        sum += static_cast<double>(expf(-logvar[n]) * (y[n] - negative[n]) * both);
      }
    }
    sum = row_reduce<kThreads>(sum, Sum{});
    if (first == 0) a.row_sums[row] = sum;
  }
};

struct SampleGradient {
  ClubSampleBackward<float> a;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t at = row * a.width + column;
    const std::int64_t of_negative = a.permutation[row] * a.width + column;
    const std::int64_t other = a.inverse[row] * a.width + column;
    const float factor = static_cast<float>(a.scale) * *a.cotangent;
    const auto mu = load_vector<float, N>(a.mu + at), y = load_vector<float, N>(a.y + at),
               logvar = load_vector<float, N>(a.logvar + at),
               negative = load_vector<float, N>(a.y + of_negative),
               other_mu = load_vector<float, N>(a.mu + other),
               other_logvar = load_vector<float, N>(a.logvar + other);
    Vector<float, N> dmu, dlogvar, dy;
    for (int n = 0; n < N; ++n) {
      const float w = expf(-logvar[n]), other_w = expf(-other_logvar[n]);
      const float both = (y[n] - mu[n]) + (negative[n] - mu[n]);
      dmu[n] = factor * (w * (y[n] - negative[n]));
      dlogvar[n] = factor * (0.5F * w * (y[n] - negative[n]) * both);
      dy[n] = factor * (other_w * (y[n] - other_mu[n]) - w * (y[n] - mu[n]));
    }
    if (a.dmu != nullptr) store_vector(a.dmu + at, dmu);
    if (a.dlogvar != nullptr) store_vector(a.dlogvar + at, dlogvar);
    if (a.dy != nullptr) store_vector(a.dy + at, dy);
  }
};

void permute(const Permute<std::int32_t>& a) { launch_map(Image{a}, 1, a.count, false); }

void forward(const ClubSampleForward<float>& a) {
  launch_rows(SampleRow{a}, a.rows, a.width, are_vector_aligned(a.mu, a.logvar, a.y));
  scaled_sum(a.row_sums, a.rows, 1, -0.5 * a.scale, a.value);
}

void backward(const ClubSampleBackward<float>& a) {
  // Rows are gathered: vectors only where every row begins aligned.
  const bool aligned = a.width % kVectorSize<float> == 0 &&
                       are_vector_aligned(a.mu, a.logvar, a.y, a.dmu, a.dlogvar, a.dy);
  launch_map(SampleGradient{a}, a.rows, a.width, aligned);
}

const RegisterDevice registered{&permute, &forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
