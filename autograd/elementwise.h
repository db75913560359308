// Elementwise functions of one and two tensors.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// a + b, a - b, a b. b's shape is a suffix of a's (equal, a bias [width], a scalar []) and is
/// repeated over a's leading dimensions; its gradient is the sum over them, accumulated in f64 in a
/// fixed order. f32 or f64, both of one dtype.
Variable add(const Variable& a, const Variable& b);
Variable subtract(const Variable& a, const Variable& b);
Variable multiply(const Variable& a, const Variable& b);

/// Any shape, f32 or f64; accuracy in f32: kernels/cpu/vector_math.h. relu's derivative at 0 is 0.
/// gelu is the exact x Phi(x).
Variable relu(const Variable& x);
Variable gelu(const Variable& x);
Variable tanh(const Variable& x);
Variable sigmoid(const Variable& x);
Variable exp(const Variable& x);

}  // namespace cmir::ops
