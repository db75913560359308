#include "kernels/norm/layer_norm.h"

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/rows.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <class T>
struct ForwardRow {
  LayerNormForward<T> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const auto width = static_cast<T>(a.width);
    const std::int64_t begin = row * a.width;
    T origin = a.width > 0 ? a.x[begin] : T{0};
    if (a.residual != nullptr && a.width > 0) origin += a.residual[begin];
    T sum = 0, squares = 0;
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      const auto vector = first_look<N>(begin + j);
      for (int k = 0; k < N; ++k) sum += vector[k] - origin;
    }
    const T* x = (a.residual == nullptr ? a.x : place_of_sum()) + begin;
    const T mean = origin + row_reduce<kThreads>(sum, Sum{}) / width;
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      const auto vector = load_vector<T, N>(x + j);
      for (int k = 0; k < N; ++k) squares += (vector[k] - mean) * (vector[k] - mean);
    }
    const T rstd = T{1} / sqrtf(row_reduce<kThreads>(squares, Sum{}) / width + a.epsilon);
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      auto vector = load_vector<T, N>(x + j);
      const auto gamma = load_vector<T, N>(a.gamma + j), beta = load_vector<T, N>(a.beta + j);
      for (int k = 0; k < N; ++k) vector[k] = (vector[k] - mean) * rstd * gamma[k] + beta[k];
      store_vector(a.y + begin + j, vector);
    }
    if (first == 0) {
      a.mean[row] = mean;
      a.rstd[row] = rstd;
    }
  }

  __device__ T* place_of_sum() const { return a.sum != nullptr ? a.sum : a.y; }
  /// What is normalised. A sum is left where the same thread looks again.
  template <int N>
  __device__ Vector<T, N> first_look(std::int64_t i) const {
    auto vector = load_vector<T, N>(a.x + i);
    if (a.residual != nullptr) {
      const auto residual = load_vector<T, N>(a.residual + i);
      for (int k = 0; k < N; ++k) vector[k] += residual[k];
      store_vector(place_of_sum() + i, vector);
    }
    return vector;
  }
};

template <class T>
void forward(const LayerNormForward<T>& a) {
  launch_rows(ForwardRow<T>{a}, a.rows, a.width,  // null is aligned
              are_vector_aligned(a.x, a.gamma, a.beta, a.y, a.residual, a.sum));
}

/// A vector of dy and of the normalised n = (x - mean) rstd.
template <class T, int N>
struct GradientAndNormalised {
  Vector<T, N> dy, n;

  __device__ GradientAndNormalised(const LayerNormBackward<T>& a, std::int64_t row,
                                   std::int64_t column)
      : dy(load_vector<T, N>(a.dy + row * a.width + column)),
        n(load_vector<T, N>(a.x + row * a.width + column)) {
    const T mean = a.mean[row], rstd = a.rstd[row];
    for (int k = 0; k < N; ++k) n[k] = (n[k] - mean) * rstd;
  }
};

/// dgamma and dbeta of a chunk of rows.
template <class T>
struct ParametersChunk {
  using Sum = T;
  static constexpr int kSums = 2;
  LayerNormBackward<T> a;

  template <int N>
  __device__ void add(std::int64_t row, std::int64_t column, T (&sums)[2 * N]) const {
    const GradientAndNormalised<T, N> g(a, row, column);
    for (int k = 0; k < N; ++k) {
      sums[k] += g.dy[k] * g.n[k];
      sums[N + k] += g.dy[k];
    }
  }
  template <int N>
  __device__ void store(std::int64_t chunk, std::int64_t column, const T (&sums)[2 * N]) const {
    T* part = a.workspace + chunk * 2 * a.width + column;
    for (int k = 0; k < N; ++k) {
      part[k] = sums[k];
      part[a.width + k] = sums[N + k];
    }
  }
};

/// dgamma and dbeta from the chunks', which lie side by side.
template <class T>
struct ParametersTotal {
  using Sum = T;
  static constexpr int kSums = 1;
  LayerNormBackward<T> a;

  template <int N>
  __device__ void add(std::int64_t chunk, std::int64_t column, T (&sums)[N]) const {
    for (int k = 0; k < N; ++k) sums[k] += a.workspace[chunk * 2 * a.width + column + k];
  }
  template <int N>
  __device__ void store(std::int64_t, std::int64_t column, const T (&sums)[N]) const {
    for (int k = 0; k < N; ++k) {
      const std::int64_t at = column + k;
      (at < a.width ? a.dgamma[at] : a.dbeta[at - a.width]) = sums[k];
    }
  }
};

template <class T>
struct InputRow {
  LayerNormBackward<T> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    T sum_g = 0, sum_gn = 0;
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      const GradientAndNormalised<T, N> g(a, row, j);
      const auto gamma = load_vector<T, N>(a.gamma + j);
      for (int k = 0; k < N; ++k) {
        sum_g += gamma[k] * g.dy[k];
        sum_gn += gamma[k] * g.dy[k] * g.n[k];
      }
    }
    const auto width = static_cast<T>(a.width);
    const T mean_g = row_reduce<kThreads>(sum_g, Sum{}) / width;
    const T mean_gn = row_reduce<kThreads>(sum_gn, Sum{}) / width;
    const T rstd = a.rstd[row];
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      const GradientAndNormalised<T, N> g(a, row, j);
      auto dx = load_vector<T, N>(a.gamma + j);
      for (int k = 0; k < N; ++k) dx[k] = rstd * (dx[k] * g.dy[k] - mean_g - g.n[k] * mean_gn);
      if (a.arrived != nullptr) {
        const auto arrived = load_vector<T, N>(a.arrived + row * a.width + j);
        for (int k = 0; k < N; ++k) dx[k] += arrived[k];
      }
      store_vector(a.dx + row * a.width + j, dx);
    }
  }
};

template <class T>
void backward(const LayerNormBackward<T>& a) {
  const std::int64_t grain = layer_norm_grain(a.rows), chunks = chunk_count(0, a.rows, grain);
  if (chunks > 0) {
    launch_columns(ParametersChunk<T>{a}, a.rows, a.width, grain, are_vector_aligned(a.x, a.dy));
  }
  launch_columns(ParametersTotal<T>{a}, chunks, 2 * a.width, std::max<std::int64_t>(1, chunks),
                 false);
  launch_rows(InputRow<T>{a}, a.rows, a.width,
              are_vector_aligned(a.x, a.gamma, a.dy, a.dx, a.arrived));
}

const RegisterDevice registered{&forward<float>, &backward<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
