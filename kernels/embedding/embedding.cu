#include "kernels/embedding/embedding.h"

#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <class T>
struct ForwardElement {
  EmbeddingForward<T> e;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    store_vector(e.y + row * e.width + column,
                 load_vector<T, N>(e.table + e.indices[row] * e.width + column));
  }
};

template <class T>
void forward(const EmbeddingForward<T>& e) {
  const bool rows_are_aligned = e.width % kVectorSize<T> == 0 && are_vector_aligned(e.table, e.y);
  launch_map(ForwardElement<T>{e}, e.rows, e.width, rows_are_aligned);
}

/// Which of the 32 rows from `begin` on, and before `end`, have this index. For a whole warp.
__device__ unsigned rows_with_index(const std::int32_t* indices, std::int64_t begin,
                                    std::int64_t end, std::int32_t index) {
  const std::int64_t row = begin + threadIdx.x;
  return __ballot_sync(0xFFFFFFFF, row < end && indices[row] == index);
}

/// A warp per row and tile of columns. It goes on only where its row is the first with its index,
/// and adds all rows with that index in their order: a fixed order without atomics, and no two
/// warps write the same place.
template <int N, class T>
__global__ void backward_kernel(EmbeddingBackward<T> e) {
  const std::int64_t row = blockIdx.x;
  const std::int32_t index = e.indices[row];
  for (std::int64_t begin = 0; begin < row; begin += 32) {
    if (rows_with_index(e.indices, begin, row, index) != 0) return;
  }
  const std::int64_t column = (std::int64_t{blockIdx.y} * 32 + threadIdx.x) * N;
  const bool has_column = column < e.width;
  T* place = e.dtable + index * e.width + column;
  Vector<T, N> sum{};
  if (has_column) sum = load_vector<T, N>(place);
  for (std::int64_t begin = row; begin < e.rows; begin += 32) {
    for (unsigned left = rows_with_index(e.indices, begin, e.rows, index); left != 0;
         left &= left - 1) {
      if (!has_column) continue;
      const std::int64_t other = begin + __ffs(static_cast<int>(left)) - 1;
      const auto dy = load_vector<T, N>(e.dy + other * e.width + column);
      for (int k = 0; k < N; ++k) sum[k] += dy[k];
    }
  }
  if (has_column) store_vector(place, sum);
}

LaunchConfig backward_configuration(std::int64_t rows, std::int64_t width, int n) {
  const std::int64_t tile = 32 * n;
  return {
      .grid = dim3(static_cast<unsigned>(rows), static_cast<unsigned>((width + tile - 1) / tile)),
      .block = dim3(32)};
}

template <class T>
void backward(const EmbeddingBackward<T>& e) {
  constexpr int n = kVectorSize<T>;
  if (e.rows == 0 || e.width == 0) return;
  if (e.width % n == 0 && are_vector_aligned(e.dy, e.dtable)) {
    launch(backward_kernel<n, T>, backward_configuration(e.rows, e.width, n), e);
  } else {
    launch(backward_kernel<1, T>, backward_configuration(e.rows, e.width, 1), e);
  }
}

const RegisterDevice registered{&forward<float>, &backward<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
