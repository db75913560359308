// The invariance penalty over all pairs of variants.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/kernel.h"
#include "kernels/loss/partial_sums.h"

namespace cmir::kernels {

/// *value = scale sum_i sum_{a < b} |z[a][i] - z[b][i]| over the unordered pairs of `variants` = K
/// + 1 values of each position i (CmIR eq. 4). Gradient with respect to z[a]: rank[a] = (number of
/// smaller) - (number of larger), where equal values count 0: a subgradient. (Sorted, the value is
/// sum_k (2k - n - 1) z_(k) and needs no pairs; but ranks with ties take all pairs in any case, and
/// summing differences loses no digits to a common shift. So one walk over the pairs of a
/// cache-sized tile gives both: bench/results/2026-11-23-cpu-losses.md has both measured.) NaN
/// gives NaN in the value; as no comparison with a NaN holds, it counts as equal in the ranks.
/// Bytes: reads variants count sizeof(T), writes variants count (ranks). Operations: 8 per pair and
/// position with ranks. Chunk sums are kept in f64 and added in chunk order; on CUDA a
/// chunk is a block's positions, and the sums are added by one block's threads, then across them.
template <class T>
struct InvarianceForward {
  static constexpr std::string_view name = "invariance_forward";
  static constexpr std::int64_t kGrain = 4096;
  static constexpr std::int64_t kDeviceGrain = 128;  // positions a device block holds at a time
  static constexpr std::int64_t kMaxVariants = 128;  // a rank fits in 8 bits
  const T* z;                                        // [variants, count]
  std::int64_t variants;
  std::int64_t count;
  double scale;
  double* partial;     // [workspace(count)], scratch
  T* value;            // [1]
  std::int8_t* ranks;  // [variants, count], or null: not wanted

  /// Enough for the CPU's chunks and for a device's blocks.
  static std::int64_t workspace(std::int64_t count) {
    return std::max(chunk_count(0, count, kGrain), device_sum_blocks(count, kDeviceGrain));
  }
  double bytes() const {
    return static_cast<double>(variants * count) * (sizeof(T) + (ranks ? 1 : 0));
  }
  double operations() const { return (ranks ? 4.0 : 1.5) * variants * (variants - 1) * count; }
};

/// dz[i] = scale cotangent ranks[i]. Bytes: count (1 + sizeof(T)). Operations: count.
template <class T>
struct InvarianceBackward {
  static constexpr std::string_view name = "invariance_backward";
  const std::int8_t* ranks;  // [count]
  const T* cotangent;        // [1]
  double scale;
  T* dz;  // [count]
  std::int64_t count;

  double bytes() const { return count * (1.0 + sizeof(T)); }
  double operations() const { return 1.0 * count; }
};

}  // namespace cmir::kernels
