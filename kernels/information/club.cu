#include "kernels/information/club.h"

#include "kernels/cuda/columns.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// N elements: w, and y and mu less the centre of their column.
template <int N>
struct Centred {
  double w[N], p[N], q[N];

  template <class Args, class Centre>
  __device__ Centred(const Args& a, std::int64_t row, std::int64_t column, Centre centre) {
    const std::int64_t at = row * a.width + column;
    const auto mu = load_vector<float, N>(a.mu + at), y = load_vector<float, N>(a.y + at);
    Vector<float, N> logvar{};
    if (a.logvar != nullptr) logvar = load_vector<float, N>(a.logvar + at);
    for (int n = 0; n < N; ++n) {
      const double of_column = centre(column + n);
      // A single row's terms are 0, also where exp overflows.
      w[n] = a.rows == 1 ? 0.0 : static_cast<double>(expf(-logvar[n]));
      p[n] = static_cast<double>(y[n]) - of_column;
      q[n] = static_cast<double>(mu[n]) - of_column;
    }
  }
};

/// The moments over a chunk of rows, about the first row of y and undivided, to partial [chunks,
/// kClubMoments, width]. In f64 any row will do as a centre: one that is D from the mean costs a
/// relative rounding D^2 / variance <= rows times that of f64.
struct ChunkOfMoments {
  using Sum = double;
  static constexpr int kSums = kClubMoments;
  ClubForward<float> a;

  template <int N>
  __device__ void add(std::int64_t row, std::int64_t column, double (&sums)[kSums * N]) const {
    const Centred<N> at(a, row, column,
                        [&](std::int64_t k) { return static_cast<double>(a.y[k]); });
    for (int n = 0; n < N; ++n) {
      sums[kClubMean * N + n] += at.p[n];
      sums[kClubSquares * N + n] += at.p[n] * at.p[n];
      sums[kClubWeights * N + n] += at.w[n];
      sums[kClubWeightedMean * N + n] += at.w[n] * at.q[n];
      sums[kClubWeighted * N + n] += at.w[n] * (at.p[n] * (at.p[n] - 2 * at.q[n]));
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

/// Moves the moments from the first row of y to the mean (club_cpu.cpp, merge_chunks), and sums
/// the value.
__global__ void club_value_kernel(ClubForward<float> a) {
  const auto rows = static_cast<double>(a.rows);
  double sum = 0;
  for (std::int64_t k = threadIdx.x; k < a.width; k += kSumThreads) {
    const auto of = [&](ClubMoment moment) -> double& { return a.moments[moment * a.width + k]; };
    const double shift = of(kClubMean) / rows, weights = of(kClubWeights),
                 weighted_mean = of(kClubWeightedMean);
    of(kClubMean) = static_cast<double>(a.y[k]) + shift;
    of(kClubSquares) -= rows * shift * shift;
    of(kClubWeightedMean) -= shift * weights;
    of(kClubWeighted) += shift * (2 * weighted_mean - shift * weights);
    sum += of(kClubWeighted) - of(kClubSquares) * weights / rows;
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
    const Centred<N> at(a, row, column,
                        [&](std::int64_t k) { return a.moments[kClubMean * a.width + k]; });
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
  launch_columns(ChunkOfMoments{a}, a.rows, a.width, grain,
                 are_vector_aligned(a.mu, a.logvar, a.y));
  constexpr int sums = ChunkOfMoments::kSums;
  launch_column_totals(a.partial, a.moments, 1.0, chunk_count(0, a.rows, grain), sums * a.width,
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
