#include "kernels/elementwise/axpy.h"

#include <algorithm>

#include "kernels/cuda/device.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr unsigned kThreads = 256;

template <class T, int N>
__global__ void axpy_kernel(T alpha, const T* x, T* y, std::int64_t count) {
  const std::int64_t thread = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t vectors = count / N;
  if (thread < vectors) {
    const auto x_vector = load_vector<T, N>(x + thread * N);
    auto y_vector = load_vector<T, N>(y + thread * N);
    for (int i = 0; i < N; ++i) y_vector[i] += alpha * x_vector[i];
    store_vector(y + thread * N, y_vector);
  }
  const std::int64_t tail = vectors * N + thread;  // fewer than N elements, one for each thread
  if (tail < count) y[tail] += alpha * x[tail];
}

template <class T, int N>
__global__ void scale_kernel(T alpha, const T* x, T* y, std::int64_t count) {
  const std::int64_t thread = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t vectors = count / N;
  if (thread < vectors) {
    auto vector = load_vector<T, N>(x + thread * N);
    for (int i = 0; i < N; ++i) vector[i] *= alpha;
    store_vector(y + thread * N, vector);
  }
  const std::int64_t tail = vectors * N + thread;
  if (tail < count) y[tail] = alpha * x[tail];
}

/// One thread per vector of N elements; at least N threads, so that there is one for each element
/// of the tail.
LaunchConfig configuration(std::int64_t count, int n) {
  const std::int64_t threads = std::max<std::int64_t>(count / n, n);
  return {.grid = dim3(static_cast<unsigned>((threads + kThreads - 1) / kThreads)),
          .block = dim3(kThreads)};
}

template <class T>
void axpy(const Axpy<T>& a) {
  if (a.count == 0) return;
  constexpr int n = kVectorSize<T>;
  if (is_vector_aligned<n>(a.x) && is_vector_aligned<n>(a.y)) {
    launch(axpy_kernel<T, n>, configuration(a.count, n), a.alpha, a.x, a.y, a.count);
  } else {
    launch(axpy_kernel<T, 1>, configuration(a.count, 1), a.alpha, a.x, a.y, a.count);
  }
}

template <class T>
void scale(const Scale<T>& a) {
  if (a.count == 0) return;
  constexpr int n = kVectorSize<T>;
  if (is_vector_aligned<n>(a.x) && is_vector_aligned<n>(a.y)) {
    launch(scale_kernel<T, n>, configuration(a.count, n), a.alpha, a.x, a.y, a.count);
  } else {
    launch(scale_kernel<T, 1>, configuration(a.count, 1), a.alpha, a.x, a.y, a.count);
  }
}

const RegisterDevice registered{&axpy<float>, &scale<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
