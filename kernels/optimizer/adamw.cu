#include "kernels/optimizer/adamw.h"

#include <cmath>

#include "kernels/cuda/map.cuh"
#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

// The number of elements is known on the device only. So the grid is one that fills an H100 (four
// blocks for each of its 132 multiprocessors), and a block takes every gridDim.x-th chunk.
constexpr unsigned kBlocks = 528, kThreads = 256;

/// The tensor that holds an element, which must be less than offsets[tensor_count]: the last whose
/// offset does not exceed it.
__device__ std::int64_t tensor_of(const std::int64_t* offsets, std::int64_t tensor_count,
                                  std::int64_t element) {
  std::int64_t low = 0, high = tensor_count;
  while (high - low > 1) {
    const std::int64_t middle = low + (high - low) / 2;
    (offsets[middle] <= element ? low : high) = middle;
  }
  return low;
}

/// Calls body.operator()<N>(i) for this thread's share of [begin, end) of the tensors'
/// concatenation: N elements of the tensor that was last passed to body.enter(), from i on. N is
/// 4, with i a multiple of 4, or 1, where four elements are cut by a bound or enter() said that the
/// tensor has no vectors.
template <class Body>
__device__ void for_each_vector(const std::int64_t* offsets, std::int64_t tensor_count,
                                std::int64_t begin, std::int64_t end, Body& body) {
  constexpr int n = 4;
  std::int64_t tensor = tensor_of(offsets, tensor_count, begin);
  for (; tensor < tensor_count && offsets[tensor] < end; ++tensor) {
    const std::int64_t start = offsets[tensor];
    const std::int64_t first = max(begin - start, std::int64_t{0});
    const std::int64_t last = min(end, offsets[tensor + 1]) - start;
    const bool has_vectors = body.enter(tensor);
    for (std::int64_t i = first / n * n + threadIdx.x * n; i < last; i += kThreads * n) {
      if (has_vectors && i >= first && i + n <= last) {
        body.template operator()<n>(i);
      } else {
        for (std::int64_t j = max(i, first); j < min(i + n, last); ++j) {
          body.template operator()<1>(j);
        }
      }
    }
  }
}

template <class T>
struct Update {
  const AdamWTensor<T>* tensors;
  AdamWConstants<T> c;
  AdamWTensor<T> t;

  __device__ bool enter(std::int64_t tensor) {
    t = tensors[tensor];
    return is_vector_aligned<4>(t.parameter) && is_vector_aligned<4>(t.gradient) &&
           is_vector_aligned<4>(t.first_moment) && is_vector_aligned<4>(t.second_moment);
  }
  template <int N>
  __device__ void operator()(std::int64_t i) const {
    auto p = load_vector<T, N>(t.parameter + i);
    auto m = load_vector<T, N>(t.first_moment + i), v = load_vector<T, N>(t.second_moment + i);
    const auto gradient = load_vector<T, N>(t.gradient + i);
    for (int k = 0; k < N; ++k) {
      const T g = c.scale * gradient[k];
      m[k] = c.beta1 * m[k] + c.rest1 * g;
      v[k] = c.beta2 * v[k] + c.rest2 * g * g;
      p[k] = c.keep * p[k] - c.step_size * m[k] / (sqrtf(v[k]) * c.root_correction + c.epsilon);
    }
    store_vector(t.parameter + i, p);
    store_vector(t.first_moment + i, m);
    store_vector(t.second_moment + i, v);
  }
};

template <class T>
__global__ void adamw_kernel(AdamWStep<T> a) {
  constexpr std::int64_t chunk = 8 * kThreads;
  CMIR_SHARED(AdamWConstants<T>, constants, [1]);
  if (a.scalars->stopped != 0) return;
  if (threadIdx.x == 0) constants[0] = a.constants();
  __syncthreads();
  Update<T> update{.tensors = a.tensors, .c = constants[0], .t = {}};
  const std::int64_t count = a.offsets[a.tensor_count];
  for (std::int64_t begin = blockIdx.x * chunk; begin < count; begin += gridDim.x * chunk) {
    for_each_vector(a.offsets, a.tensor_count, begin, min(begin + chunk, count), update);
  }
}

template <class T>
void adamw_step(const AdamWStep<T>& a) {
  if (a.tensor_count == 0) return;
  launch(adamw_kernel<T>, {.grid = dim3(kBlocks), .block = dim3(kThreads)}, a);
}

template <class T>
__global__ void adamw_prepare_kernel(AdamWPrepare<T> a) {
  a.compute();
}

template <class T>
void adamw_prepare(const AdamWPrepare<T>& a) {
  launch(adamw_prepare_kernel<T>, {.grid = dim3(1), .block = dim3(1)}, a);
}

/// The sum of the squares that a thread has seen, and the first tensor with a number that is not
/// finite.
template <class T>
struct Squares {
  static constexpr std::int64_t kNone = std::numeric_limits<std::int64_t>::max();
  const T* const* tensors;
  double sum = 0;
  std::int64_t nonfinite_tensor = kNone;
  std::int64_t tensor = 0;
  const T* elements = nullptr;  // of that tensor

  __device__ bool enter(std::int64_t next) {
    tensor = next;
    elements = tensors[next];
    return is_vector_aligned<4>(elements);
  }
  template <int N>
  __device__ void operator()(std::int64_t i) {
    const auto x = load_vector<T, N>(elements + i);
    for (int k = 0; k < N; ++k) {
      sum += static_cast<double>(x[k]) * static_cast<double>(x[k]);
      if (!isfinite(x[k])) nonfinite_tensor = min(nonfinite_tensor, tensor);
    }
  }
  /// The block's sum and first tensor, written by its first thread.
  __device__ void merge_block(SquaredNormPartial* result) const {
    const double total = block_reduce(sum, Sum{});
    const std::int64_t first = block_reduce(nonfinite_tensor, Minimum{});
    if (threadIdx.x == 0) *result = {total, first == kNone ? -1 : first};
  }
};

template <class T>
__global__ void squared_norm_chunk_kernel(SquaredNorm<T> a) {
  const std::int64_t count = a.offsets[a.tensor_count];
  for (std::int64_t chunk = blockIdx.x; chunk < squared_norm_workspace(count); chunk += gridDim.x) {
    const std::int64_t begin = chunk * kSquaredNormGrain;
    Squares<T> squares{a.tensors};
    for_each_vector(a.offsets, a.tensor_count, begin, min(begin + kSquaredNormGrain, count),
                    squares);
    squares.merge_block(a.workspace + chunk);
  }
}

template <class T>
__global__ void squared_norm_merge_kernel(SquaredNorm<T> a) {
  Squares<T> squares{a.tensors};
  const std::int64_t chunks = squared_norm_workspace(a.offsets[a.tensor_count]);
  for (std::int64_t chunk = threadIdx.x; chunk < chunks; chunk += kThreads) {
    const SquaredNormPartial partial = a.workspace[chunk];
    squares.sum += partial.sum;
    if (partial.nonfinite_tensor >= 0) {
      squares.nonfinite_tensor = min(squares.nonfinite_tensor, partial.nonfinite_tensor);
    }
  }
  squares.merge_block(a.result);
}

template <class T>
void squared_norm(const SquaredNorm<T>& a) {
  if (a.tensor_count > 0) {
    launch(squared_norm_chunk_kernel<T>, {.grid = dim3(kBlocks), .block = dim3(kThreads)}, a);
  }
  launch(squared_norm_merge_kernel<T>, {.grid = dim3(1), .block = dim3(kThreads)}, a);
}

const RegisterDevice registered{&adamw_step<float>, &squared_norm<float>, &adamw_prepare<float>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
