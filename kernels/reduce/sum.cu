#include "kernels/reduce/sum.h"

#include "kernels/cuda/columns.cuh"
#include "kernels/cuda/rows.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr unsigned kThreads = 256;

/// The sum of a thread's vectors of N elements of x [count], in steps of the block; the tail, one
/// by one, is the first threads'.
template <int N, class T>
__device__ double sum_of_thread(const T* x, std::int64_t count) {
  double sum = 0;
  for (std::int64_t i = std::int64_t{threadIdx.x} * N; i + N <= count; i += kThreads * N) {
    const auto vector = load_vector<T, N>(x + i);
    for (int k = 0; k < N; ++k) sum += static_cast<double>(vector[k]);
  }
  const std::int64_t tail = count / N * N + threadIdx.x;
  if (tail < count) sum += static_cast<double>(x[tail]);
  return sum;
}

template <int N, class T>
__global__ void sum_chunk_kernel(const T* x, double* workspace, std::int64_t count) {
  const std::int64_t begin = blockIdx.x * SumAll<T>::kGrain;
  const double sum =
      block_reduce(sum_of_thread<N>(x + begin, min(count - begin, SumAll<T>::kGrain)), Sum{});
  if (threadIdx.x == 0) workspace[blockIdx.x] = sum;
}

template <class T>
__global__ void sum_chunks_kernel(const double* workspace, std::int64_t chunks, double scale,
                                  T* y) {
  const double sum = block_reduce(sum_of_thread<1>(workspace, chunks), Sum{});
  if (threadIdx.x == 0) *y = static_cast<T>(scale * sum);
}

template <class T>
void sum_all(const SumAll<T>& s) {
  constexpr int n = kVectorSize<T>;
  const std::int64_t chunks = s.workspace_size(s.count);
  if (chunks > 0) {
    launch(is_vector_aligned<n>(s.x) ? sum_chunk_kernel<n, T> : sum_chunk_kernel<1, T>,
           {.grid = dim3(static_cast<unsigned>(chunks)), .block = dim3(kThreads)}, s.x, s.workspace,
           s.count);
  }
  launch(sum_chunks_kernel<T>, {.grid = dim3(1), .block = dim3(kThreads)}, s.workspace, chunks,
         s.scale, s.y);
}

template <class T>
struct RowsChunk {
  using Sum = double;
  static constexpr int kSums = 1;
  SumOverRows<T> s;

  template <int N>
  __device__ void add(std::int64_t row, std::int64_t column, double (&sums)[N]) const {
    const auto x = load_vector<T, N>(s.x + row * s.width + column);
    if (s.factor == nullptr) {
      for (int k = 0; k < N; ++k) sums[k] += static_cast<double>(x[k]);
    } else {
      const auto factor = load_vector<T, N>(s.factor + row * s.width + column);
      for (int k = 0; k < N; ++k) {
        sums[k] += static_cast<double>(x[k]) * static_cast<double>(factor[k]);
      }
    }
  }
  template <int N>
  __device__ void store(std::int64_t chunk, std::int64_t column, const double (&sums)[N]) const {
    for (int k = 0; k < N; ++k) s.workspace[chunk * s.width + column + k] = sums[k];
  }
};

template <class T>
void sum_over_rows(const SumOverRows<T>& s) {
  const std::int64_t grain = s.grain(s.width);
  if (s.rows > 0) {
    launch_columns(RowsChunk<T>{s}, s.rows, s.width, grain, are_vector_aligned(s.x, s.factor));
  }
  launch_column_totals(s.workspace, s.y, s.scale, chunk_count(0, s.rows, grain), s.width, s.width);
}

template <class T>
struct ColumnsOfRow {
  SumOverColumns<T> s;

  template <int kThreadsOfRow, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    double sum = 0;
    for (std::int64_t j = first; j < s.width; j += kThreadsOfRow * N) {
      const auto x = load_vector<T, N>(s.x + row * s.width + j);
      for (int k = 0; k < N; ++k) sum += static_cast<double>(x[k]);
    }
    sum = row_reduce<kThreadsOfRow>(sum, Sum{});
    if (first == 0) s.y[row] = static_cast<T>(s.scale * sum);
  }
};

template <class T>
void sum_over_columns(const SumOverColumns<T>& s) {
  launch_rows(ColumnsOfRow<T>{s}, s.rows, s.width, are_vector_aligned(s.x));
}

template <class T>
struct BroadcastElement {
  Broadcast<T> b;
  T scale;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    auto x = load_or_repeat<N>(b.x + row * b.row_stride, column, b.column_stride == 0);
    for (int k = 0; k < N; ++k) x[k] *= scale;
    store_vector(b.y + row * b.width + column, x);
  }
};

template <class T>
void broadcast(const Broadcast<T>& b) {
  BroadcastElement<T> element{b, static_cast<T>(b.scale)};
  if (b.row_stride == 0 && b.column_stride == 0) {  // one value: the matrix is taken as one row
    element.b.width = b.rows * b.width;
    element.b.rows = 1;
  }
  launch_map(element, element.b.rows, element.b.width,
             are_vector_aligned(b.y) && (b.column_stride == 0 || are_vector_aligned(b.x)));
}

const RegisterDevice registered{&sum_all<float>, &sum_over_rows<float>, &sum_over_columns<float>,
                                &broadcast<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
