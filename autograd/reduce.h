// Sums and means.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// Which dimensions a reduction removes: all ([...] -> []), all but the last ([..., width] ->
/// [width]), or the last
/// ([..., width] -> [...]).
enum class Over { all, leading, last };

/// f32 or f64; accumulated in f64 in an order that depends on the shape only. An empty sum is 0.
Variable sum(const Variable& x, Over over = Over::all);
/// The sum divided by the number of elements that went into each result; the mean of none is an
/// Error.
Variable mean(const Variable& x, Over over = Over::all);

}  // namespace cmir::ops
