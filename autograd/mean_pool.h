// The mean over time.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// The mean of each sample's rows: x f32 or f64 [rows, width], offsets i64 [samples + 1]. Returns
/// [samples, width]; an empty sample gives zeros (and passes no gradient on).
Variable mean_pool(const Variable& x, const Tensor& offsets);

}  // namespace cmir::ops
