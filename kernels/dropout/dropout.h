// Dropout with a mask that is recomputed, never stored
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "core/philox.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// Element i is kept, and scaled, where stream.uniform(i) >= p, and else dropped; p in [0, 1),
/// where 0 means no dropout and draws nothing.
struct DropoutMask {
  double p = 0;
  RandomStream stream = {};

  /// uniform >= p, both times 2^24: exact, since a uniform number is a 24-bit integer times 2^-24.
  std::uint32_t threshold() const { return static_cast<std::uint32_t>(std::ceil(p * 0x1p24)); }
  double scale() const { return 1.0 / (1.0 - p); }
};

/// y[i] = x[i] / (1 - p) where stream.uniform(i) >= p, else 0 (Srivastava et al., JMLR 2014;
/// "inverted" scale), p in [0, 1). The gradient is the same kernel on dy. x and y may be the same
/// array. f32 and f64, any instruction set, device and thread count drop the same elements. Where x
/// is NaN or infinite and dropped, y is 0. Bytes: 2 count sizeof(T). Operations: count, and 10
/// rounds of Philox (some 15 integer operations an element).
template <class T>
struct Dropout {
  static constexpr std::string_view name = "dropout";
  const T* x;  // [count]
  T* y;        // [count]
  std::int64_t count;
  double p;
  RandomStream stream;

  DropoutMask mask() const { return {p, stream}; }
  double bytes() const { return 2.0 * count * sizeof(T); }
  double operations() const { return 16.0 * count; }
};

}  // namespace cmir::kernels
