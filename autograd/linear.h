// Linear layer with bias, activation and dropout.
#pragma once

#include <vector>

#include "autograd/tape.h"
#include "kernels/dropout/dropout.h"
#include "kernels/elementwise/activation.h"

namespace cmir {
using kernels::Activation;
using kernels::DropoutMask;
}  // namespace cmir

namespace cmir::ops {

/// dropout(activation(x weight^T + bias)): x [..., in], weight [out, in], bias [out] or Variable()
/// for none -> [..., out], f32 or f64. Keeps x and weight (in bf16 where the precision says so, see
/// autograd/precision.h) where the other's gradient is wanted, and for backward of the activation
/// the result (gelu: the activation's input; none: nothing). Drops what ops::dropout with the
/// mask's p and stream would; a p of 0, in evaluation too, is no dropout.
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = {},
                Activation activation = Activation::none, const DropoutMask& dropout = {});

struct LinearLayer {
  Variable weight;  ///< [out, in]
  Variable bias;    ///< [out], or undefined in every layer
};

/// Linear layers with relu between them, and activation and dropout behind the last. As linear()
/// of each, but for its gradients: the relu and the bias gradient of a layer are part of the
/// product that comes before them in backward (kernels/matrix/linear_backward.h).
Variable mlp(const Variable& x, const std::vector<LinearLayer>& layers,
             Activation activation = Activation::none, const DropoutMask& dropout = {});

}  // namespace cmir::ops
