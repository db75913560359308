// Joining, slicing and picking rows and columns.
#pragma once

#include <vector>

#include "autograd/embedding.h"
#include "autograd/tape.h"

namespace cmir::ops {

/// The parts side by side along the last dimension: [..., w_0], [..., w_1], ... -> [..., w_0 + w_1
/// + ...]. At least one part; equal leading dimensions and dtypes (f32 or f64).
Variable concat(const std::vector<Variable>& parts);
/// Columns [begin, end) of the last dimension: [..., width] -> [..., end - begin].
Variable slice_columns(const Variable& x, std::int64_t begin, std::int64_t end);
/// The inverse of concat: the widths must add up to the last dimension.
std::vector<Variable> split_columns(const Variable& x, const std::vector<std::int64_t>& widths);
/// Rows [begin, end) of the leading dimension. Shares x's memory; backward writes into a
/// zero-filled tensor of x's size.
Variable slice_rows(const Variable& x, std::int64_t begin, std::int64_t end);
/// x[indices[i]] along the leading dimension, indices i32 [rows].
inline Variable gather_rows(const Variable& x, const Tensor& indices) {
  return embedding(x, indices);
}

}  // namespace cmir::ops
