#include "kernels/invariance/gaussian_mmd.h"

#include <algorithm>

#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
#include "kernels/invariance/row_pairs.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// Row i and those at [first, first + count): returns their part of the value, and leaves the
/// factors of x_i - x_j in the gradient.
template <class T>
double weigh_pairs(const GaussianMmd<T>& a, const MmdWeights& weights, std::int64_t i,
                   std::int64_t first, std::int64_t count, T* factors) {
  alignas(64) T distances[kPairTile] = {};
  alignas(64) T kernels[kPairTile] = {};
  alignas(64) T slopes[kPairTile] = {};
  squared_distances(a.x + i * a.width, a.x + first * a.width, a.width, count, distances);
  for (int g = 0; g < a.bank.count; ++g) {
    const T gamma = static_cast<T>(a.bank.gammas[g]);
#pragma omp simd
    for (std::int64_t j = 0; j < kPairTile; ++j) {
      const T e = cpu::exp(-gamma * distances[j]);
      kernels[j] += e;
      slopes[j] += gamma * e;
    }
  }
  if (a.unbiased && i >= first && i < first + count) kernels[i - first] = slopes[i - first] = 0;
  double value = 0;
#pragma omp simd reduction(+ : value)
  for (std::int64_t j = 0; j < count; ++j) {
    const double weight = weights.of(i, first + j);
    value += weight * static_cast<double>(kernels[j]);
    factors[j] = static_cast<T>(-4 * weight * static_cast<double>(slopes[j]));
  }
  return value;
}

template <class T>
double chunk_of_rows(const GaussianMmd<T>& a, const MmdWeights& weights, std::int64_t begin,
                     std::int64_t end) {
  alignas(64) T factors[kPairTile];
  double value = 0;
  if (a.derivatives) std::fill(a.derivatives + begin * a.width, a.derivatives + end * a.width, 0);
  for (std::int64_t first = 0; first < a.rows.rows; first += kPairTile) {
    const std::int64_t count = std::min(kPairTile, a.rows.rows - first);
    for (std::int64_t i = begin; i < end; ++i) {
      value += weigh_pairs(a, weights, i, first, count, factors);
      if (!a.derivatives) continue;
      add_differences(a.x + i * a.width, a.x + first * a.width, a.width, count, factors,
                      a.derivatives + i * a.width);
    }
  }
  return value;
}

template <class T>
void gaussian_mmd(const GaussianMmd<T>& a) {
  constexpr std::int64_t grain = GaussianMmd<T>::kGrain;
  const std::int64_t n = a.rows.rows, counted = a.rows.count_with(a.unbiased ? 2 : 1);
  const MmdWeights weights(a.scratch, n);
  for (std::int64_t k = 0; k < n; ++k) weights.write(a.rows, a.unbiased, counted, k);
  parallel_for(0, n, grain, [&](std::int64_t begin, std::int64_t end) {
    weights.partial[begin / grain] = chunk_of_rows(a, weights, begin, end);
  });
  double value = 0;
  for (std::int64_t chunk = 0; chunk < chunk_count(0, n, grain); ++chunk) {
    value += weights.partial[chunk];
  }
  *a.value = static_cast<T>(value);
}

const RegisterCpu registered{kIsa, &gaussian_mmd<float>, &gaussian_mmd<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
