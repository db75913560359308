// Unary functions, alone or behind a linear layer: relu, gelu, tanh, sigmoid, exp
#pragma once

#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/dropout/dropout.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// relu max(x, 0); gelu x Phi(x) (exact: Hendrycks and Gimpel, "Gaussian error linear units",
/// 2016); sigmoid 1 / (1 + exp(-x)).
enum class Activation { none, relu, gelu, tanh, sigmoid, exp };

/// What backward needs of forward: gelu its input, `none` nothing, the others their output.
enum class ActivationSaves { nothing, input, output };
constexpr ActivationSaves saved_by(Activation activation) {
  switch (activation) {
    case Activation::none:
      return ActivationSaves::nothing;
    case Activation::gelu:
      return ActivationSaves::input;
    default:
      return ActivationSaves::output;
  }
}

/// y = activation(x), elementwise; x and y may be the same array. NaN stays NaN. f32 accuracy:
/// kernels/cpu/vector_math.h, on CUDA that of expf, tanhf and erfcf. Bytes: 2 count sizeof(T).
/// Operations: counted as one for each element.
template <class T>
struct ActivationForward {
  static constexpr std::string_view name = "activation_forward";
  Activation activation;
  const T* x;  // [count]
  T* y;        // [count]
  std::int64_t count;

  double bytes() const { return 2.0 * count * sizeof(T); }
  double operations() const { return 1.0 * count; }
};

/// dx = dy * activation'(x), with dropout behind the activation dx = mask * dy * activation'(x),
/// and, if `column_sums` is given, its sums over rows: the gradient of a bias that was added before
/// the activation. dx may be dy's array; with Activation::none and no dropout it may be null, when
/// only the sums are wanted. All outputs are overwritten. Sums are accumulated in f64, per chunk of
/// rows, the chunks in order (on CUDA pairwise, in an order of the shape and alignment alone):
/// deterministic. With dropout (forward: LinearForward) `saved`, where it is the output, is what
/// dropout left of it. The mask is drawn again, except for relu, whose output is positive only
/// where it was kept. Where dropped, dx is 0, whatever dy is. Element i of the
/// mask is element i of the array. Bytes: 3 rows width sizeof(T); none: 1 without dropout, else 2
/// (dropout's backward, then this: 2 more). Operations: 2 rows width, and with dropout, but for
/// relu, 16 for each element's Philox word (on CUDA four times that where width is no multiple of 4
/// or below 128).
template <class T>
struct ActivationBackward {
  static constexpr std::string_view name = "activation_backward";
  Activation activation;
  const T* dy;     // [rows, width]
  const T* saved;  // [rows, width] forward's x or y, see saved_by(); null for none
  T* dx;           // [rows, width]
  std::int64_t rows, width;
  T* column_sums = nullptr;     // [width]
  double* workspace = nullptr;  // [workspace_size(rows, width)], needed for column_sums
  DropoutMask dropout = {};     // p = 0: none

  static constexpr std::int64_t kGrain = 64;  // rows
  static std::int64_t workspace_size(std::int64_t rows, std::int64_t width) {
    return chunk_count(0, rows, kGrain) * width;
  }
  double bytes() const {
    const double arrays = activation != Activation::none ? 3 : dropout.p > 0 ? 2 : 1;
    return arrays * rows * width * sizeof(T);
  }
  double operations() const {
    const bool draws = dropout.p > 0 && activation != Activation::relu;
    return (draws ? 18.0 : 2.0) * rows * width;
  }
};

}  // namespace cmir::kernels
