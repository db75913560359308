// Numerical gradient checks in f64.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "autograd/tape.h"

namespace cmir {

/// One function and point at which an op's gradient is checked. Floating inputs (f64) are
/// differentiated; others are held.
struct GradientCase {
  std::string name;  ///< what is awkward about it: "one row", "equal maxima"
  std::vector<Tensor> inputs;
  std::function<Variable(std::span<const Variable>)> function;
  double tolerance = 1e-6;
};

struct GradientReport {
  bool passed = false;
  double worst = 0;           ///< largest relative error, or NaN
  std::string where;          ///< the worst element, for the message
  std::int64_t compared = 0;  ///< elements of the gradient
};

/// Compares backward() with the full Jacobian by fourth-order central differences (step 1e-3 max(1,
/// |x|)), under three random cotangents, element by element and by direction. The error of an
/// element is relative to sum_i |v_i| |J_ij|'s largest value over j, and it passes only if error <=
/// tolerance: NaN fails. Keep inputs more than 0.01 from kinks.
GradientReport check_gradient(const GradientCase& gradient_case, Device device = {});

/// The outcome for one case of one op.
struct OpReport {
  std::string op, name;
  GradientReport gradient;
};
/// Checks every case of every op. An op that has no cases, or whose cases compare no element at
/// all, or that shares its name with another, gets a failed report that says so.
std::vector<OpReport> check_gradients(const std::vector<OpInfo>& ops);

/// Reproducible f64 test data: standard normals from Philox with the given seed.
Tensor random_normal(const Shape& shape, std::uint64_t seed);
/// Standard normals pushed away from zero to |x| >= margin, for functions with a kink at 0.
Tensor random_away_from_zero(const Shape& shape, std::uint64_t seed, double margin = 0.05);

}  // namespace cmir
