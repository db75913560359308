#include "models/training/penalty_schedule.h"

#include <cmath>

#include "core/error.h"

namespace cmir {

PenaltySchedule PenaltySchedule::make(std::string_view name, double initial_weight,
                                      double final_weight, std::int64_t steps) {
  for (const double weight : {initial_weight, final_weight}) {
    require(weight >= 0 && std::isfinite(weight), "penalty schedule",
            "a weight must be finite and not negative, got {}", weight);
  }
  require(steps >= 0, "penalty schedule", "the number of steps is {}", steps);
  if (name == "constant") return {Kind::constant, initial_weight, final_weight, steps};
  if (name == "step") return {Kind::step, initial_weight, final_weight, steps};
  if (name == "linear") return {Kind::linear, initial_weight, final_weight, steps};
  fail(ErrorKind::usage, "penalty schedule", "'{}' is none of constant, step, linear", name);
}

double PenaltySchedule::weight(std::int64_t step) const {
  require(step >= 0, "penalty schedule", "there is no step {}", step);
  if (kind == Kind::constant || step >= steps) return final_weight;
  if (kind == Kind::step) return initial_weight;
  const double done = static_cast<double>(step) / static_cast<double>(steps);
  return initial_weight + (final_weight - initial_weight) * done;
}

}  // namespace cmir
