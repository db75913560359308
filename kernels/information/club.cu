#include "kernels/information/club.h"

#include "kernels/cuda/columns.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// Sums of y over a chunk of rows, to partial [chunks, width].
struct ChunkOfY {
  using Sum = double;
  static constexpr int kSums = 1;
  ClubForward<float> a;

  template <int N>
  __device__ void add(std::int64_t row, std::int64_t column, double (&sums)[N]) const {
    const auto y = load_vector<float, N>(a.y + row * a.width + column);
    for (int n = 0; n < N; ++n) sums[n] += static_cast<double>(y[n]);
  }
  template <int N>
  __device__ void store(std::int64_t chunk, std::int64_t column, const double (&sums)[N]) const {
    for (int n = 0; n < N; ++n) a.partial[chunk * a.width + column + n] = sums[n];
  }
};

/// N elements: w, a = y - m and b = mu - m.
template <int N>
struct Centred {
  double w[N], p[N], q[N];

  template <class Args>
  __device__ Centred(const Args& a, std::int64_t row, std::int64_t column) {
    const std::int64_t at = row * a.width + column;
    const auto mu = load_vector<float, N>(a.mu + at), y = load_vector<float, N>(a.y + at);
    Vector<float, N> logvar{};
    if (a.logvar != nullptr) logvar = load_vector<float, N>(a.logvar + at);
    for (int n = 0; n < N; ++n) {
      const double mean = a.moments[kClubMean * a.width + column + n];
      w[n] = static_cast<double>(expf(-logvar[n]));
      p[n] = static_cast<double>(y[n]) - mean;
      q[n] = static_cast<double>(mu[n]) - mean;
    }
  }
};

/// The other moments over a chunk of rows, to partial [chunks, kSums, width].
struct ChunkOfMoments {
  using Sum = double;
  static constexpr int kSums = kClubMoments - 1;
  ClubForward<float> a;

  template <int N>
  __device__ void add(std::int64_t row, std::int64_t column, double (&sums)[kSums * N]) const {
    const Centred<N> at(a, row, column);
    for (int n = 0; n < N; ++n) {
      sums[n] += at.p[n] * at.p[n];
      sums[N + n] += at.w[n];
      sums[2 * N + n] += at.w[n] * at.q[n];
      sums[3 * N + n] += at.w[n] * (at.p[n] * (at.p[n] - 2 * at.q[n]));
    }
  }
  template <int N>
  __device__ void store(std::int64_t chunk, std::int64_t column,
                        const double (&sums)[kSums * N]) const {
    for (int s = 0; s < kSums; ++s) {
      double* out = a.partial + (chunk * kSums + s) * a.width + column;
      for (int n = 0; n < N; ++n) out[n] = sums[s * N + n];
    }
  }
};

__global__ void club_value_kernel(ClubForward<float> a) {
  double sum = 0;
  for (std::int64_t k = threadIdx.x; k < a.width; k += kSumThreads) {
    const double squares = a.moments[kClubSquares * a.width + k],
                 weights = a.moments[kClubWeights * a.width + k];
    sum += a.moments[kClubWeighted * a.width + k] - squares * weights / static_cast<double>(a.rows);
  }
  sum = block_reduce(sum, Sum{});
  if (threadIdx.x == 0) *a.value = static_cast<float>(-0.5 * a.scale * sum);
}

struct ClubGradient {
  ClubBackward<float> a;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const double factor = a.scale * static_cast<double>(*a.cotangent);
    const double inverse = 1.0 / static_cast<double>(a.rows);
    const Centred<N> at(a, row, column);
    Vector<float, N> dmu, dlogvar, dy;
    for (int n = 0; n < N; ++n) {
      const double w = at.w[n], p = at.p[n], q = at.q[n];
      const double* moments = a.moments + column + n;
      const double variance = moments[kClubSquares * a.width] * inverse;
      const double pull =
          p * moments[kClubWeights * a.width] - moments[kClubWeightedMean * a.width];
      dmu[n] = static_cast<float>(factor * (w * p));
      dlogvar[n] = static_cast<float>(factor * (0.5 * w * (p * (p - 2 * q) - variance)));
      dy[n] = static_cast<float>(factor * (w * (q - p) + pull * inverse));
    }
    const std::int64_t i = row * a.width + column;
    if (a.dmu != nullptr) store_vector(a.dmu + i, dmu);
    if (a.dlogvar != nullptr) store_vector(a.dlogvar + i, dlogvar);
    if (a.dy != nullptr) store_vector(a.dy + i, dy);
  }
};

void forward(const ClubForward<float>& a) {
  const std::int64_t grain = ClubForward<float>::grain(a.rows);
  const std::int64_t chunks = chunk_count(0, a.rows, grain);
  const bool aligned = are_vector_aligned(a.mu, a.logvar, a.y);
  launch_columns(ChunkOfY{a}, a.rows, a.width, grain, aligned);
  launch_column_totals(a.partial, a.moments, 1.0 / static_cast<double>(a.rows), chunks, a.width,
                       a.width);
  launch_columns(ChunkOfMoments{a}, a.rows, a.width, grain, aligned);
  constexpr int sums = ChunkOfMoments::kSums;
  launch_column_totals(a.partial, a.moments + kClubSquares * a.width, 1.0, chunks, sums * a.width,
                       sums * a.width);
  launch(club_value_kernel, {.grid = dim3(1), .block = dim3(kSumThreads)}, a);
}

void backward(const ClubBackward<float>& a) {
  launch_map(ClubGradient{a}, a.rows, a.width,
             are_vector_aligned(a.mu, a.logvar, a.y, a.dmu, a.dlogvar, a.dy));
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
