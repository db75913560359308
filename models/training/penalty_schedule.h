// How the weight of an invariance penalty changes during training: a pure function of the step.
#pragma once

#include <cstdint>
#include <string_view>

namespace cmir {

/// The weight at optimizer step t = 0, 1, ... with n = steps:
///   constant   final_weight
///   step       initial_weight for t < n, then final_weight: as IRM's authors anneal theirs, from 1
///   linear     initial_weight + (final_weight - initial_weight) t / n for t < n, then final_weight
/// With n = 0 all are constant. Where the final weight is large, IRM's authors also divide the
/// whole objective by it from there on, so that the gradient does not jump; that is the caller's to
/// do.
struct PenaltySchedule {
  enum class Kind { constant, step, linear };

  Kind kind = Kind::constant;
  double initial_weight = 0;
  double final_weight = 1;
  std::int64_t steps = 0;

  /// `name`: "constant", "step" or "linear", anything else is an Error of kind usage, and so are
  /// weights that are negative or not finite and a negative number of steps.
  static PenaltySchedule make(std::string_view name, double initial_weight, double final_weight,
                              std::int64_t steps);
  double weight(std::int64_t step) const;
};

}  // namespace cmir
