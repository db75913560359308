// Linear layer with bias and activation.
#pragma once

#include "autograd/tape.h"
#include "kernels/elementwise/activation.h"

namespace cmir {
using kernels::Activation;
}

namespace cmir::ops {

/// activation(x weight^T + bias): x [..., in], weight [out, in], bias [out] or Variable() for none
/// -> [..., out], f32 or f64. Keeps x and weight (in bf16 where the precision says so, see
/// autograd/precision.h) where the other's gradient is wanted, and for backward of the activation
/// its output (gelu: its input).
Variable linear(const Variable& x, const Variable& weight, const Variable& bias = {},
                Activation activation = Activation::none);

}  // namespace cmir::ops
