#include "kernels/pool/mean_pool.h"

#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// Rows of a sample as its mean divides by them.
template <class T>
__device__ T divisor(std::int64_t begin, std::int64_t end) {
  return static_cast<T>(end > begin ? end - begin : 1);
}

/// A thread sums some columns of one sample.
template <class T>
struct ForwardSample {
  MeanPoolForward<T> a;

  template <int N>
  __device__ void operator()(std::int64_t sample, std::int64_t column) const {
    const std::int64_t begin = a.offsets[sample], end = a.offsets[sample + 1];
    Vector<T, N> sum{};
    for (std::int64_t row = begin; row < end; ++row) {
      const auto x = load_vector<T, N>(a.x + row * a.width + column);
      for (int k = 0; k < N; ++k) sum[k] += x[k];
    }
    for (int k = 0; k < N; ++k) sum[k] /= divisor<T>(begin, end);
    store_vector(a.y + sample * a.width + column, sum);
  }
};

template <class T>
void forward(const MeanPoolForward<T>& a) {
  const bool rows_are_aligned = a.width % kVectorSize<T> == 0 && are_vector_aligned(a.x, a.y);
  launch_map(ForwardSample<T>{a}, a.samples, a.width, rows_are_aligned);
}

constexpr std::int64_t kSlices = 8;  // threads that share a sample's rows

template <class T>
struct BackwardSlice {
  MeanPoolBackward<T> a;

  template <int N>
  __device__ void operator()(std::int64_t slice, std::int64_t column) const {
    const std::int64_t sample = slice / kSlices;
    const std::int64_t begin = a.offsets[sample], end = a.offsets[sample + 1];
    auto vector = load_vector<T, N>(a.dy + sample * a.width + column);
    for (int k = 0; k < N; ++k) vector[k] /= divisor<T>(begin, end);
    for (std::int64_t row = begin + slice % kSlices; row < end; row += kSlices) {
      store_vector(a.dx + row * a.width + column, vector);
    }
  }
};

template <class T>
void backward(const MeanPoolBackward<T>& a) {
  launch_map(BackwardSlice<T>{a}, a.samples * kSlices, a.width, are_vector_aligned(a.dy, a.dx));
}

const RegisterDevice registered{&forward<float>, &backward<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
