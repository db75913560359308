#include "bench/cuda/materialised.h"

#include "kernels/cuda/rows.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// ln of a sum of exps so far: exp(largest) sum.
struct LogSum {
  float largest = -INFINITY, sum = 0;

  __device__ void add(float score) {
    if (score > largest) {
      sum *= expf(largest - score);
      largest = score;
    }
    sum += expf(score - largest);
  }
};

struct LogSumOfRow {
  MaterialisedSums<float> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t first) const {
    LogSum own;
    for (std::int64_t j = first; j < a.n; j += kThreads * N) {
      const auto scores = load_vector<float, N>(a.s + row * a.n + j);
      for (int k = 0; k < N; ++k) own.add(scores[k]);
    }
    const float largest = row_reduce<kThreads>(own.largest, Maximum{});
    const float part = own.sum == 0 ? 0.0F : own.sum * expf(own.largest - largest);
    const float sum = row_reduce<kThreads>(part, Sum{});
    if (first == 0) a.row_sums[row] = largest + logf(sum);
  }
};

constexpr unsigned kColumns = 32, kWalkers = 32;  // of a block: threads along a row, and rows

/// A block has 32 columns.
__global__ void log_sum_of_columns_kernel(MaterialisedSums<float> a) {
  CMIR_SHARED(float, largest_of, [kWalkers][kColumns]);
  CMIR_SHARED(float, sum_of, [kWalkers][kColumns]);
  const std::int64_t column = std::int64_t{blockIdx.x} * kColumns + threadIdx.x;
  LogSum own;
  for (std::int64_t i = threadIdx.y; column < a.n && i < a.n; i += kWalkers) {
    own.add(a.s[i * a.n + column]);
  }
  largest_of[threadIdx.y][threadIdx.x] = own.largest;
  sum_of[threadIdx.y][threadIdx.x] = own.sum;
  __syncthreads();
  if (threadIdx.y > 0 || column >= a.n) return;
  float largest = own.largest, sum = 0;
  for (unsigned y = 1; y < kWalkers; ++y) {
    const float other = largest_of[y][threadIdx.x];
    largest = fmaxf(largest, other);
  }
  for (unsigned y = 0; y < kWalkers; ++y) {
    const float part = sum_of[y][threadIdx.x], of_part = largest_of[y][threadIdx.x];
    if (part > 0) sum += part * expf(of_part - largest);
  }
  a.column_sums[column] = largest + logf(sum);
}

/// One block.
__global__ void materialised_value_kernel(MaterialisedSums<float> a) {
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < a.n; i += kSumThreads) {
    const auto of_row = static_cast<double>(a.row_sums[i]);
    const double both =
        a.column_sums != nullptr ? 0.5 * (of_row + static_cast<double>(a.column_sums[i])) : of_row;
    sum += both - static_cast<double>(a.s[i * a.n + i]);
  }
  sum = block_reduce(sum, Sum{});
  if (threadIdx.x == 0) *a.value = static_cast<float>(sum / static_cast<double>(a.n));
}

template <class T>
struct ScoreGradient {
  MaterialisedGradient<T> a;

  template <int N>
  __device__ void operator()(std::int64_t row, std::int64_t column) const {
    const std::int64_t at = row * a.n + column;
    const auto scores = load_vector<float, N>(a.s + at);
    const float share = (a.column_sums != nullptr ? 0.5F : 1.0F) / static_cast<float>(a.n);
    Vector<T, N> out;
    for (int k = 0; k < N; ++k) {
      float weight = expf(scores[k] - a.row_sums[row]);
      if (a.column_sums != nullptr) weight += expf(scores[k] - a.column_sums[column + k]);
      if (row == column + k) weight -= a.column_sums != nullptr ? 2.0F : 1.0F;
      out[k] = static_cast<T>(share * weight);
    }
    store_vector(a.ds + at, out);
  }
};

void sums(const MaterialisedSums<float>& a) {
  launch_rows(LogSumOfRow{a}, a.n, a.n, are_vector_aligned(a.s));
  if (a.column_sums != nullptr) {
    launch(log_sum_of_columns_kernel,
           {.grid = dim3(static_cast<unsigned>((a.n + kColumns - 1) / kColumns)),
            .block = dim3(kColumns, kWalkers)},
           a);
  }
  launch(materialised_value_kernel, {.grid = dim3(1), .block = dim3(kSumThreads)}, a);
}

template <class T>
void gradient(const MaterialisedGradient<T>& a) {
  launch_map(ScoreGradient<T>{a}, a.n, a.n,
             are_vector_aligned(a.s) && is_vector_aligned<kVectorSize<float>>(a.ds));
}

const RegisterDevice registered{&sums, &gradient<float>, &gradient<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
