// f32 rounded to bf16
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// y[i] = x[i] rounded to bf16: to nearest, ties to even, NaN stays NaN, too large becomes infinite
/// (core/dtype.h). Relative error at most 2^-8 for |x| from 2^-126 to the largest bf16, absolute
/// error at most 2^-134 below that. Exact and the same bits everywhere. For T = float only. Bytes:
/// 6 count. Operations: none.
template <class T>
struct RoundToBFloat16 {
  static constexpr std::string_view name = "round_to_bf16";
  const T* x;   // [count]
  BFloat16* y;  // [count]
  std::int64_t count;

  double bytes() const { return 1.0 * count * (sizeof(T) + sizeof(BFloat16)); }
  double operations() const { return 0.0; }
};

}  // namespace cmir::kernels
