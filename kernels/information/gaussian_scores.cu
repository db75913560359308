#include "kernels/information/gaussian_scores.h"

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/rows.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// The means of y and of exp(logvar) over some rows.
struct MeansOfRows {
  using Sum = double;
  static constexpr int kSums = 2;
  GaussianScoresForward<float> s;

  template <int N>
  __device__ void add(std::int64_t i, std::int64_t column, double (&sums)[2 * N]) const {
    const std::int64_t at = s.sample(i) * s.width + column;
    const auto y = load_vector<float, N>(s.y + at), logvar = load_vector<float, N>(s.logvar + at);
    for (int n = 0; n < N; ++n) {
      sums[n] += static_cast<double>(y[n]);
      sums[N + n] += static_cast<double>(expf(logvar[n]));
    }
  }
  template <int N>
  __device__ void store(std::int64_t, std::int64_t column, const double (&sums)[2 * N]) const {
    const auto count = static_cast<double>(s.samples());
    for (int n = 0; n < N; ++n) {
      s.means[column + n] = sums[n] / count;
      s.means[s.width + column + n] = sums[N + n] / count;
    }
  }
};

/// N elements in f64: w, u, p, q, y - mu, and logvar.
template <int N>
struct Elements {
  double w[N], u[N], p[N], q[N], apart[N];
  Vector<float, N> logvar;

  template <class Args>
  __device__ Elements(const Args& s, std::int64_t row, std::int64_t column) {
    const std::int64_t at = row * s.width + column;
    const auto mu = load_vector<float, N>(s.mu + at), y = load_vector<float, N>(s.y + at);
    logvar = load_vector<float, N>(s.logvar + at);
    for (int n = 0; n < N; ++n) {
      const double mean = s.means[column + n];
      w[n] = static_cast<double>(expf(-logvar[n]));
      u[n] = 1 / s.means[s.width + column + n];
      p[n] = static_cast<double>(y[n]) - mean;
      q[n] = static_cast<double>(mu[n]) - mean;
      apart[n] = static_cast<double>(y[n]) - static_cast<double>(mu[n]);
    }
  }
};

struct FactorsOfRow {
  GaussianScoresForward<float> s;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const std::int64_t depth = gaussian_score_depth(s.width);
    float *a = s.a + row * depth, *b = s.b + row * depth;
    double offset = 0, own = 0;
    for (std::int64_t k = first; k < s.width; k += kThreads * N) {
      const Elements<N> at(s, row, k);
      Vector<float, N> square, linear, weight, weighted;
      for (int n = 0; n < N; ++n) {
        const double w = at.w[n], u = at.u[n], p = at.p[n], q = at.q[n];
        square[n] = static_cast<float>(p * p);
        linear[n] = static_cast<float>(p);
        weight[n] = static_cast<float>(-0.5 * (w - u));
        weighted[n] = static_cast<float>(w * q);
        offset += w * q * q + static_cast<double>(at.logvar[n]);
        own += w * at.apart[n] * at.apart[n] - u * p * p + static_cast<double>(at.logvar[n]);
      }
      store_vector(a + k, square);
      store_vector(a + s.width + k, linear);
      store_vector(b + k, weight);
      store_vector(b + s.width + k, weighted);
    }
    offset = row_reduce<kThreads>(offset, Sum{});
    own = row_reduce<kThreads>(own, Sum{});
    if (first != 0) return;
    for (std::int64_t k = 2 * s.width; k < depth; ++k) a[k] = b[k] = 0;
    a[2 * s.width] = 1;
    b[2 * s.width] = static_cast<float>(-0.5 * offset);
    s.own[row] = -0.5 * own;
  }
};

struct GradientOfScores {
  GaussianScoresBackward<float> s;

  template <int N>
  __device__ void of_x(std::int64_t row, std::int64_t column, double factor,
                       const Elements<N>& at) const {
    const float *of_square = s.db + row * gaussian_score_depth(s.width),
                *of_p = of_square + s.width;
    const auto of_one = static_cast<double>(of_square[2 * s.width]);
    const auto squared = load_vector<float, N>(of_square + column),
               linear = load_vector<float, N>(of_p + column);
    Vector<float, N> dmu, dlogvar;
    for (int n = 0; n < N; ++n) {
      const double w = at.w[n], q = at.q[n], apart = at.apart[n];
      const auto along = static_cast<double>(linear[n]);
      const double squares = static_cast<double>(squared[n]) + q * (q * of_one - 2 * along);
      dmu[n] = static_cast<float>(w * (along - q * of_one + factor * apart));
      dlogvar[n] =
          static_cast<float>(0.5 * (w * (squares + factor * apart * apart) - of_one - factor));
    }
    const std::int64_t i = row * s.width + column;
    if (s.dmu != nullptr) store_vector(s.dmu + i, dmu);
    if (s.dlogvar != nullptr) store_vector(s.dlogvar + i, dlogvar);
  }
  template <int N>
  __device__ void of_y(std::int64_t row, std::int64_t column, double factor,
                       const Elements<N>& at) const {
    const float *of_weight = s.da + row * gaussian_score_depth(s.width),
                *of_mu = of_weight + s.width;
    const auto weight = load_vector<float, N>(of_weight + column),
               weighted = load_vector<float, N>(of_mu + column);
    Vector<float, N> dy;
    for (int n = 0; n < N; ++n) {
      const double pull = 2 * static_cast<double>(weight[n]) + factor * at.u[n];
      dy[n] = static_cast<float>(at.p[n] * pull + static_cast<double>(weighted[n]) -
                                 factor * at.w[n] * at.apart[n]);
    }
    store_vector(s.dy + row * s.width + column, dy);
  }
  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const double factor = s.scale * static_cast<double>(*s.cotangent);
    const Elements<N> at(s, row, column);
    if (s.db != nullptr) of_x(row, column, factor, at);
    if (s.dy != nullptr) of_y(row, column, factor, at);
  }
};

void forward(const GaussianScoresForward<float>& s) {
  const bool aligned = are_vector_aligned(s.mu, s.logvar, s.y);
  launch_columns(MeansOfRows{s}, s.samples(), s.width, std::max<std::int64_t>(1, s.samples()),
                 aligned);
  launch_rows(FactorsOfRow{s}, s.rows, s.width, aligned && are_vector_aligned(s.a, s.b));
}

void backward(const GaussianScoresBackward<float>& s) {
  // The second half of a row of da or db is aligned where the width is whole vectors.
  const bool aligned = s.width % kVectorSize<float> == 0 &&
                       are_vector_aligned(s.mu, s.logvar, s.y, s.da, s.db, s.dmu, s.dlogvar, s.dy);
  launch_map(GradientOfScores{s}, s.rows, s.width, aligned);
}

const RegisterDevice registered{&forward, &backward};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
