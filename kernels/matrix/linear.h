// Linear layer: Y = dropout(activation(X W^T + bias))
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/dropout/dropout.h"
#include "kernels/elementwise/activation.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// Where relu's result is positive, a bit each, in an order of cuBLASLt's own.
inline std::int64_t relu_mask_stride(std::int64_t out) { return (out + 127) / 128 * 128; }
inline std::int64_t relu_mask_bytes(std::int64_t rows, std::int64_t out) {
  return rows * relu_mask_stride(out) / 8;
}

/// y = dropout(activation(x weight^T + bias)). One chunk of the product at a time gets its bias,
/// activation and dropout while it is in the cache (chunks: GemmSplit, so the bits do not depend on
/// the thread count). For gelu the pre-activation, which backward needs, is written too if asked
/// for. All outputs are overwritten. Dropout: element i of y by element i of the stream, as
/// kernels::Dropout; its mask is never stored, and ActivationBackward needs y alone, or nothing.
/// rows, in or out may be 0. Bytes: (rows in + out in) sizeof(T) + rows out sizeof(y) (dropout by
/// itself: 2 rows out sizeof(y) more). Operations: 2 rows in out, and with dropout 16 rows out. The
/// gradients are ActivationBackward (dz and the bias gradient), then two Gemm: dx = dz weight,
/// dweight = dz^T x; linear_backward.h has what fuses them. On CUDA bias and relu are cuBLASLt's
/// epilogue, where pre_activation is null, bias aligned for 16 bytes and no dropout asked for;
/// else, or where cuBLASLt has no algorithm for the sizes, one kernel follows the product and does
/// all that is left. NVIDIA does not say whether that relu keeps NaN. BFloat16 (x and weight are
/// bf16, all else f32) and tf32: as Gemm.
template <class T>
struct LinearForward {
  static constexpr std::string_view name = "linear_forward";
  const T* x;            // [rows, in]
  const T* weight;       // [out, in]
  const SumOf<T>* bias;  // [out] or null
  Activation activation;
  SumOf<T>* pre_activation;  // [rows, out] or null
  SumOf<T>* y;               // [rows, out]
  std::int64_t rows, in, out;
  DropoutMask dropout = {};  // p = 0: none
  bool tf32 = false;
  std::uint8_t* relu_mask = nullptr;  // [relu_mask_bytes(rows, out)] for LinearReluGradient on a
                                      // device, with relu and no dropout; or null

  double bytes() const {
    return sizeof(T) * (1.0 * rows * in + 1.0 * out * in) + sizeof(SumOf<T>) * 1.0 * rows * out;
  }
  double operations() const {
    return 2.0 * rows * in * out + (dropout.p > 0 ? 16.0 * rows * out : 0.0);
  }
};

}  // namespace cmir::kernels
