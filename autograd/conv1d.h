// One-dimensional convolution over packed sequences.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// y[r, o] = bias[o] + sum_{t, i} weight[o, i, t] x[r + t - (taps - 1) / 2, i], with zeros outside
/// r's sample: PyTorch's Conv1d with "same" padding on each sample alone. x f32 or f64 [rows, in],
/// offsets i64 [samples + 1], weight [out, in, taps] with odd taps, bias [out] or Variable() for
/// none. Returns [rows, out].
Variable conv1d(const Variable& x, const Tensor& offsets, const Variable& weight,
                const Variable& bias);

}  // namespace cmir::ops
