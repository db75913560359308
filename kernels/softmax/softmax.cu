#include "kernels/softmax/softmax.h"

#include "kernels/cuda/rows.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

template <class T>
struct ForwardRow {
  SoftmaxForward<T> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const T* x = a.x + row * a.width;
    T* y = a.y + row * a.width;
    const std::int64_t length = a.lengths != nullptr ? a.lengths[row] : a.width;
    T maximum = -kInfinity;
    for (std::int64_t j = first; j < length; j += kThreads * N) {
      const auto vector = load_vector<T, N>(x + j);
      for (int k = 0; k < N; ++k) maximum = j + k < length ? max(maximum, vector[k]) : maximum;
    }
    maximum = row_reduce<kThreads>(maximum, Maximum{});
    // No logit above -inf: exp(-inf - 0) = 0 throughout, while NaN stays NaN.
    const T shift = maximum == -kInfinity ? T{0} : maximum;
    T sum = 0;
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      auto vector = load_vector<T, N>(x + j);
      for (int k = 0; k < N; ++k) {
        vector[k] = j + k < length ? expf(vector[k] - shift) : T{0};
        sum += vector[k];
      }
      store_vector(y + j, vector);
    }
    sum = row_reduce<kThreads>(sum, Sum{});
    const T scale = sum == T{0} ? T{0} : T{1} / sum;
    for (std::int64_t j = first; j < length; j += kThreads * N) {
      auto vector = load_vector<T, N>(y + j);  // this thread's own
      for (int k = 0; k < N; ++k) vector[k] = j + k < length ? vector[k] * scale : T{0};
      store_vector(y + j, vector);
    }
  }
};

template <class T>
void forward(const SoftmaxForward<T>& a) {
  if (a.width == 0) return;
  launch_rows(ForwardRow<T>{a}, a.rows, a.width, are_vector_aligned(a.x, a.y));
}

template <class T>
struct BackwardRow {
  SoftmaxBackward<T> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    const std::int64_t begin = row * a.width;
    const std::int64_t length = a.lengths != nullptr ? a.lengths[row] : a.width;
    T dot = 0;
    for (std::int64_t j = first; j < length; j += kThreads * N) {
      const auto y = load_vector<T, N>(a.y + begin + j), dy = load_vector<T, N>(a.dy + begin + j);
      for (int k = 0; k < N; ++k) dot += j + k < length ? y[k] * dy[k] : T{0};
    }
    dot = row_reduce<kThreads>(dot, Sum{});
    for (std::int64_t j = first; j < a.width; j += kThreads * N) {
      const auto y = load_vector<T, N>(a.y + begin + j);
      auto dx = load_vector<T, N>(a.dy + begin + j);
      for (int k = 0; k < N; ++k) dx[k] = j + k < length ? y[k] * (dx[k] - dot) : T{0};
      store_vector(a.dx + begin + j, dx);
    }
  }
};

template <class T>
void backward(const SoftmaxBackward<T>& a) {
  if (a.width == 0) return;
  launch_rows(BackwardRow<T>{a}, a.rows, a.width, are_vector_aligned(a.y, a.dy, a.dx));
}

const RegisterDevice registered{&forward<float>, &backward<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
