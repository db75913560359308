// y += alpha x
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// y[i] += alpha * x[i] for i in [0, count). y is accumulated into; x and y may be the same array.
/// Bytes moved: 3 count sizeof(T). Operations: 2 count. Deterministic: elementwise.
template <class T>
struct Axpy {
  static constexpr std::string_view name = "axpy";
  T alpha;
  const T* x;  // [count]
  T* y;        // [count]
  std::int64_t count;

  double bytes() const { return 3.0 * count * sizeof(T); }
  double operations() const { return 2.0 * count; }
};

/// y[i] = alpha * x[i]. x and y may be the same array. Bytes: 2 count sizeof(T). Operations: count.
template <class T>
struct Scale {
  static constexpr std::string_view name = "scale";
  T alpha;
  const T* x;  // [count]
  T* y;        // [count]
  std::int64_t count;

  double bytes() const { return 2.0 * count * sizeof(T); }
  double operations() const { return 1.0 * count; }
};

}  // namespace cmir::kernels
