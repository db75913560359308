#include "kernels/loss/invariance.h"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kTile =
    64;  // positions held in the first-level cache while all pairs are walked

/// Sum over the pairs and over `width` <= kTile positions; with `ranks`, also the ranks.
template <class T>
T tile_sum(const InvarianceForward<T>& a, std::int64_t begin, std::int64_t width) {
  using Count = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  alignas(64) Count rank[InvarianceForward<T>::kMaxVariants][kTile];
  alignas(64) T sum[kTile] = {};
  if (a.ranks) {
    for (std::int64_t v = 0; v < a.variants; ++v) std::fill_n(rank[v], kTile, Count{0});
  }
  for (std::int64_t p = 0; p < a.variants; ++p) {
    for (std::int64_t q = p + 1; q < a.variants; ++q) {
      const T* x = a.z + p * a.count + begin;
      const T* y = a.z + q * a.count + begin;
      if (a.ranks) {
        Count *rank_x = rank[p], *rank_y = rank[q];
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
          sum[i] += std::abs(x[i] - y[i]);
          const Count sign = Count{x[i] > y[i]} - Count{x[i] < y[i]};
          rank_x[i] += sign;
          rank_y[i] -= sign;
        }
      } else {
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) sum[i] += std::abs(x[i] - y[i]);
      }
    }
  }
  if (a.ranks) {
    for (std::int64_t v = 0; v < a.variants; ++v) {
      std::int8_t* out = a.ranks + v * a.count + begin;
      for (std::int64_t i = 0; i < width; ++i) out[i] = static_cast<std::int8_t>(rank[v][i]);
    }
  }
  T total = 0;
#pragma omp simd reduction(+ : total)
  for (std::int64_t i = 0; i < kTile; ++i) total += sum[i];
  return total;
}

template <class T>
void forward(const InvarianceForward<T>& a) {
  constexpr std::int64_t grain = InvarianceForward<T>::kGrain;
  parallel_for(0, a.count, grain, [&](std::int64_t begin, std::int64_t end) {
    double sum = 0;
    for (std::int64_t i = begin; i < end; i += kTile)
      sum += tile_sum(a, i, std::min(kTile, end - i));
    a.partial[begin / grain] = sum;
  });
  double sum = 0;
  for (std::int64_t chunk = 0; chunk < chunk_count(0, a.count, grain); ++chunk) {
    sum += a.partial[chunk];
  }
  *a.value = static_cast<T>(a.scale * sum);
}

template <class T>
void backward(const InvarianceBackward<T>& a) {
  const T factor = static_cast<T>(a.scale) * *a.cotangent;
  parallel_for(0, a.count, 16384, [&](std::int64_t begin, std::int64_t end) {
    const std::int8_t* ranks = a.ranks;
    T* dz = a.dz;
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) dz[i] = factor * static_cast<T>(ranks[i]);
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
