// The squared distance of two arrays, differentiable in both.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/kernel.h"
#include "kernels/loss/partial_sums.h"

namespace cmir::kernels {

/// *value = scale sum_i (a[i] - b[i])^2. Chunk sums are kept in f64 and added in chunk order;
/// on CUDA four elements are summed in f32, the rest by threads and blocks in f64, in a fixed
/// order. Bytes: 2 count sizeof(T). Operations: 3 count.
template <class T>
struct SquaredDistanceForward {
  static constexpr std::string_view name = "squared_distance_forward";
  static constexpr std::int64_t kGrain = 8192;
  static constexpr std::int64_t kDeviceGrain = 1024;  // elements a device block takes at a time
  const T* a;                                         // [count]
  const T* b;                                         // [count]
  std::int64_t count;
  double scale;
  double* partial;  // [workspace(count)], scratch
  T* value;         // [1]

  /// Enough for the CPU's chunks and for a device's blocks.
  static std::int64_t workspace(std::int64_t count) {
    return std::max(chunk_count(0, count, kGrain), device_sum_blocks(count, kDeviceGrain));
  }
  double bytes() const { return 2.0 * count * sizeof(T); }
  double operations() const { return 3.0 * count; }
};

/// da = 2 scale cotangent (a - b), db = -da; either may be null. Bytes: up to 4 count sizeof(T).
/// Operations: 3 count.
template <class T>
struct SquaredDistanceBackward {
  static constexpr std::string_view name = "squared_distance_backward";
  const T* a;          // [count]
  const T* b;          // [count]
  const T* cotangent;  // [1]
  std::int64_t count;
  double scale;
  T* da;  // [count] or null
  T* db;  // [count] or null

  double bytes() const { return (2.0 + (da != nullptr) + (db != nullptr)) * count * sizeof(T); }
  double operations() const { return 3.0 * count; }
};

}  // namespace cmir::kernels
