#include "kernels/embedding/embedding.h"

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/sort.h"

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

/// order[row] = index of the row, then the row: sorted, the rows of an index stand together.
struct RowByIndex {
  const std::int32_t* indices;
  std::int64_t* order;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t row) const {
    for (int k = 0; k < N; ++k) {
      order[row + k] =
          static_cast<std::uint64_t>(indices[row + k]) << 32 | static_cast<std::uint64_t>(row + k);
    }
  }
};

/// A warp per place in the order and tile of columns. It goes on only from an index's first place,
/// and adds all rows of that index in their order: a fixed order without atomics, and no two warps
/// write the same place.
template <int N, class T>
__global__ void backward_kernel(EmbeddingBackward<T> e, const std::int64_t* order) {
  const std::int64_t first = blockIdx.x;
  const std::int64_t index = order[first] >> 32;
  if (first > 0 && order[first - 1] >> 32 == index) return;
  const std::int64_t column = (std::int64_t{blockIdx.y} * 32 + threadIdx.x) * N;
  if (column >= e.width) return;
  T* place = e.dtable + index * e.width + column;
  auto sum = load_vector<T, N>(place);
  for (std::int64_t i = first; i < e.rows && order[i] >> 32 == index; ++i) {
    const std::int64_t row = order[i] & 0xFFFFFFFF;
    const auto dy = load_vector<T, N>(e.dy + row * e.width + column);
    for (int k = 0; k < N; ++k) sum[k] += dy[k];
  }
  store_vector(place, sum);
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
  std::int64_t* keys = e.workspace;
  launch_map(RowByIndex{e.indices, keys}, 1, e.rows, false);
  const std::int64_t* order = sort_keys(keys, keys + e.rows, e.rows, 32, 63);
  if (e.width % n == 0 && are_vector_aligned(e.dy, e.dtable)) {
    launch(backward_kernel<n, T>, backward_configuration(e.rows, e.width, n), e, order);
  } else {
    launch(backward_kernel<1, T>, backward_configuration(e.rows, e.width, 1), e, order);
  }
}

const RegisterDevice registered{&forward<float>, &backward<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
