// The order in which the host model runs blocks and threads, and the check that it does not matter.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace cmir::kernels::simt {

struct Schedule {
  /// ascending, descending: of all threads that can go on, the one with the lowest (highest) index
  /// does, until it waits; blocks in rising (falling) order. random: drawn from `seed`.
  enum class Order { ascending, descending, random };
  Order order = Order::ascending;
  std::uint64_t seed = 0;

  bool operator==(const Schedule&) const = default;
  /// "ascending", "descending", "random:7"
  std::string to_string() const;
  /// The inverse of to_string(); an Error for anything else.
  static Schedule parse(std::string_view text);
};

/// The schedule of the next launch: that of the innermost ScheduleScope, else of the environment
/// variable CMIR_SIMT_SCHEDULE, else ascending.
Schedule current_schedule();

/// Sets the schedule of this process until the end of the scope.
class ScheduleScope {
 public:
  explicit ScheduleScope(Schedule schedule);
  ~ScheduleScope();
  ScheduleScope(const ScheduleScope&) = delete;
  ScheduleScope& operator=(const ScheduleScope&) = delete;

 private:
  Schedule before_;
};

/// The schedules that expect_same_under_schedules tries: the two orders and some random ones.
const std::vector<Schedule>& tried_schedules();

namespace detail {
[[noreturn]] void fail_different(const Schedule& first, const Schedule& second, std::size_t element,
                                 const std::string& first_value, const std::string& second_value);
}

/// body() launches kernels on fresh data and returns the output's elements as a vector. Runs it
/// under every tried schedule and returns the output; an Error names the kernel, the schedules and
/// the first element if two outputs differ in a bit.
template <class Body>
auto expect_same_under_schedules(Body&& body) {
  using Output = decltype(body());
  Output expected;
  for (const Schedule& schedule : tried_schedules()) {
    const ScheduleScope scope(schedule);
    Output output = body();
    if (schedule == tried_schedules().front()) {
      expected = std::move(output);
      continue;
    }
    require(output.size() == expected.size(), "expect_same_under_schedules",
            "{} elements under schedule {}, {} under {}", expected.size(),
            tried_schedules().front().to_string(), output.size(), schedule.to_string());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      if (std::memcmp(&output[i], &expected[i], sizeof(expected[i])) == 0) continue;
      detail::fail_different(tried_schedules().front(), schedule, i, fmt::to_string(expected[i]),
                             fmt::to_string(output[i]));
    }
  }
  return expected;
}

}  // namespace cmir::kernels::simt
