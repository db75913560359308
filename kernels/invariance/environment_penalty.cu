#include "kernels/invariance/environment_penalty.h"

#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr unsigned kThreads = 256;  // even: a thread's samples are all of one half

/// The scratch memory: means and factors [environments, 2], sums [environments, blocks, 2].
struct Places {
  double *means, *factors, *sums;

  __device__ explicit Places(const EnvironmentPenalty<float>& a)
      : means(a.scratch),
        factors(means + 2 * a.rows.environments),
        sums(factors + 2 * a.rows.environments) {}
};

/// Calls body(k) for the running thread's positions within its block's environment, which the
/// blocks share.
template <class Body>
__device__ void for_own_positions(std::int64_t n, std::int64_t blocks, const Body& body) {
  for (std::int64_t k = blockIdx.x % blocks * kThreads + threadIdx.x; k < n;
       k += blocks * kThreads) {
    body(k);
  }
}

__global__ void environment_sums_kernel(EnvironmentPenalty<float> a, std::int64_t blocks) {
  const std::int64_t e = blockIdx.x / blocks;
  const std::int64_t begin = a.rows.offsets[e], n = a.rows.offsets[e + 1] - begin;
  double sum = 0;
  for_own_positions(n, blocks, [&](std::int64_t k) {
    sum += static_cast<double>(a.values[a.rows.row(begin + k)]);
  });
  const bool odd = threadIdx.x % 2 == 1;
  const double first = block_reduce(odd ? 0.0 : sum, Sum{});
  const double second = block_reduce(odd ? sum : 0.0, Sum{});
  if (threadIdx.x > 0) return;
  double* sums = Places(a).sums + 2 * blockIdx.x;
  sums[0] = first;
  sums[1] = second;
}

/// One block: a thread adds up an environment's sums, then one thread combines the means.
__global__ void environment_penalty_kernel(EnvironmentPenalty<float> a, std::int64_t blocks) {
  const Places places(a);
  const bool halves = a.form.kind == EnvironmentPenaltyKind::halves_product;
  for (std::int64_t e = threadIdx.x; e < a.rows.environments; e += kThreads) {
    const std::int64_t n = a.rows.offsets[e + 1] - a.rows.offsets[e], first = (n + 1) / 2;
    double sums[2] = {};
    for (std::int64_t b = 2 * e * blocks; b < 2 * (e + 1) * blocks; b += 2) {
      sums[0] += places.sums[b];
      sums[1] += places.sums[b + 1];
    }
    places.means[2 * e] = halves ? sums[0] / static_cast<double>(first)
                                 : (sums[0] + sums[1]) / static_cast<double>(n);
    places.means[2 * e + 1] =
        halves ? sums[1] / static_cast<double>(n - first) : places.means[2 * e];
  }
  __syncthreads();
  if (threadIdx.x > 0) return;
  *a.value = static_cast<float>(penalty_of_means(a, places.means, places.factors));
}

__global__ void environment_derivatives_kernel(EnvironmentPenalty<float> a, std::int64_t blocks) {
  const std::int64_t e = blockIdx.x / blocks;
  const std::int64_t begin = a.rows.offsets[e], n = a.rows.offsets[e + 1] - begin;
  const auto factor = static_cast<float>(Places(a).factors[2 * e + threadIdx.x % 2]);
  for_own_positions(n, blocks,
                    [&](std::int64_t k) { a.derivatives[a.rows.row(begin + k)] = factor; });
}

void environment_penalty(const EnvironmentPenalty<float>& a) {
  const std::int64_t blocks =
      EnvironmentPenalty<float>::blocks_per_environment(a.rows.environments, a.rows.rows);
  const LaunchConfig every{.grid = dim3(static_cast<unsigned>(a.rows.environments * blocks)),
                           .block = dim3(kThreads)};
  launch(environment_sums_kernel, every, a, blocks);
  launch(environment_penalty_kernel, {.grid = dim3(1), .block = dim3(kThreads)}, a, blocks);
  if (a.derivatives != nullptr) launch(environment_derivatives_kernel, every, a, blocks);
}

const RegisterDevice registered{&environment_penalty};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
