// The noisy variants of the virtual environments, with the noise drawn inside.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/philox.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// Block 0 of y is x; block e = 1 .. environments is x + alpha e eps_e with eps_e standard normal
/// (CmIR eq. 3, alpha(e) = alpha(1) e, Sigma = I). The noise of element i of block e is number (e -
/// 1) count + i of the stream, in f32 for either T. Bytes: reads (1 + environments) count, writes
/// as much. Operations: about 100 per noisy element (ten Philox rounds for four, Box-Muller for
/// two). Deterministic: elementwise.
template <class T>
struct NoiseVariantsForward {
  static constexpr std::string_view name = "noise_variants_forward";
  const T* x;  // [count]
  T* y;        // [environments + 1, count]
  std::int64_t count;
  std::int64_t environments;
  double alpha;
  RandomStream stream;

  double bytes() const { return 2.0 * (environments + 1) * count * sizeof(T); }
  double operations() const { return 100.0 * environments * count; }
};

/// dx[i] = sum over the blocks of dy[e][i], in block order.
template <class T>
struct NoiseVariantsBackward {
  static constexpr std::string_view name = "noise_variants_backward";
  const T* dy;  // [blocks, count]
  T* dx;        // [count]
  std::int64_t count;
  std::int64_t blocks;

  double bytes() const { return (blocks + 1.0) * count * sizeof(T); }
  double operations() const { return 1.0 * blocks * count; }
};

}  // namespace cmir::kernels
