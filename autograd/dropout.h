// Dropout.
#pragma once

#include "autograd/tape.h"
#include "core/philox.h"

namespace cmir::ops {

/// Element i of x (any shape, f32 or f64) divided by 1 - p where stream.uniform(i) >= p, else 0; p
/// in [0, 1). p = 0 returns x. For training only: in evaluation leave it out. Nothing is saved:
/// backward draws the same mask from the stream again.
Variable dropout(const Variable& x, double p, const RandomStream& stream);

}  // namespace cmir::ops
