// Position encodings.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// y[r] = scale x[r] + table[p], p = the number of rows before r in its sample. x f32 or f64 [rows,
/// width], offsets i64 [samples + 1]. `table` is learned, [positions, width], and an Error says so
/// if a sample is longer than it; or Variable(), and is then the sinusoids below. Returns x's
/// shape.
Variable add_positions(const Variable& x, const Tensor& offsets, const Variable& table = {},
                       double scale = 1.0);

/// [positions, width]: element (p, 2i) = sin(p / 10000^(2i / width)), element (p, 2i + 1) = cos of
/// the same (Vaswani et al. 2017, section 3.5; fairseq and MulT keep the sines in the first half
/// and the cosines in the second, and count from 1). For an odd width the last column is a sine.
Tensor sinusoids(std::int64_t positions, std::int64_t width, DType dtype);

}  // namespace cmir::ops
