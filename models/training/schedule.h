// Learning rate schedules: pure functions of the step.
#pragma once

#include <cstdint>
#include <string_view>

namespace cmir {

/// The factor that multiplies every group's learning rate at optimizer step t = 0, 1, ... of T =
/// total_steps, with w = warmup_steps:
///   t < w              (t + 1) / (w + 1)                            linear warm-up
///   constant, t >= w   1
///   linear, t >= w     (T - t) / (T - w), and 0 from T on
///   cosine, t >= w     (1 + cos(pi (t - w) / (T - w))) / 2, and 0 from T on
/// So it is 1 at t = w, and no step before T is lost to a factor of 0.
struct Schedule {
  enum class Decay { constant, linear, cosine };

  Decay decay = Decay::constant;
  std::int64_t warmup_steps = 0;
  std::int64_t total_steps = 0;

  /// `decay_name`: "constant", "linear" or "cosine", anything else is an Error of kind usage;
  /// warm-up takes the nearest number of steps to `warmup_fraction` (0 .. 1) of `total_steps`.
  static Schedule make(std::string_view decay_name, std::int64_t total_steps,
                       double warmup_fraction);
  double factor(std::int64_t step) const;
};

}  // namespace cmir
