// Softmax with lengths.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// Softmax of the last dimension. x f32 or f64 [..., width]. With lengths (i64, one per row of x
/// read as a matrix, each in 0 .. width; or Tensor() for none), positions at and after a row's
/// length get 0. A row of length 0, or all of whose logits are -inf, is zeros with a zero gradient.
/// Returns x's shape.
Variable softmax(const Variable& x, const Tensor& lengths = {});

}  // namespace cmir::ops
