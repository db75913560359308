#include "models/training/schedule.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace cmir {

Schedule Schedule::make(std::string_view decay_name, std::int64_t total_steps,
                        double warmup_fraction) {
  require(total_steps >= 0, "schedule", "the number of steps is {}", total_steps);
  require(warmup_fraction >= 0 && warmup_fraction <= 1, "schedule",
          "the warm-up fraction {} is not within 0 .. 1", warmup_fraction);
  const auto warmup =
      static_cast<std::int64_t>(std::llround(warmup_fraction * static_cast<double>(total_steps)));
  if (decay_name == "constant") return {Decay::constant, warmup, total_steps};
  if (decay_name == "linear") return {Decay::linear, warmup, total_steps};
  if (decay_name == "cosine") return {Decay::cosine, warmup, total_steps};
  fail(ErrorKind::usage, "schedule", "'{}' is none of constant, linear, cosine", decay_name);
}

double Schedule::factor(std::int64_t step) const {
  require(step >= 0, "schedule", "there is no step {}", step);
  if (step < warmup_steps)
    return static_cast<double>(step + 1) / static_cast<double>(warmup_steps + 1);
  if (decay == Decay::constant) return 1;
  if (step >= total_steps) return 0;
  const double done =
      static_cast<double>(step - warmup_steps) / static_cast<double>(total_steps - warmup_steps);
  return decay == Decay::linear ? 1 - done : (1 + std::cos(std::numbers::pi * done)) / 2;
}

}  // namespace cmir
