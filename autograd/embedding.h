// Table lookup.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// table[indices[i]]: table [count, ...], indices i32 [rows] -> [rows, ...]. An index outside [0,
/// count) is an Error that names it. The gradient with respect to the table is dense; equal indices
/// add up in the order of their rows.
Variable embedding(const Variable& table, const Tensor& indices);
/// The Error of embedding() for an index, i32 on the CPU, outside a table of so many rows.
void check_indices(const Tensor& indices, std::int64_t rows);

}  // namespace cmir::ops
