// Differentiable scaling and addition.
#pragma once

#include "autograd/tape.h"

namespace cmir::ops {

/// alpha x, any shape.
Variable scale(const Variable& x, double alpha);
/// sum_i weights[i] * terms[i]: all terms of one shape and dtype, one weight each, at least one
/// term.
Variable weighted_sum(const std::vector<Variable>& terms, const std::vector<double>& weights);

/// The same with weights of 1.
Variable sum_of(const std::vector<Variable>& terms);

}  // namespace cmir::ops
