#include "kernels/simt/schedule.h"

#include <charconv>
#include <cstdlib>

#include "kernels/simt/grid.h"

namespace cmir::kernels::simt {
namespace {

Schedule& active() {
  static Schedule schedule = [] {
    const char* text = std::getenv("CMIR_SIMT_SCHEDULE");
    return text == nullptr ? Schedule{} : Schedule::parse(text);
  }();
  return schedule;
}

}  // namespace

std::string Schedule::to_string() const {
  if (order == Order::ascending) return "ascending";
  return order == Order::descending ? "descending" : fmt::format("random:{}", seed);
}

Schedule Schedule::parse(std::string_view text) {
  if (text == "ascending") return {};
  if (text == "descending") return {.order = Order::descending};
  Schedule schedule{.order = Order::random};
  constexpr std::string_view prefix = "random:";
  if (text.starts_with(prefix)) {
    const char* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data() + prefix.size(), end, schedule.seed);
    if (parsed.ec == std::errc{} && parsed.ptr == end) return schedule;
  }
  fail(ErrorKind::usage, "CMIR_SIMT_SCHEDULE", "'{}' is none of ascending, descending, random:SEED",
       text);
}

Schedule current_schedule() { return active(); }

ScheduleScope::ScheduleScope(Schedule schedule) : before_(active()) { active() = schedule; }
ScheduleScope::~ScheduleScope() { active() = before_; }

const std::vector<Schedule>& tried_schedules() {
  using enum Schedule::Order;
  static const std::vector<Schedule> schedules = {
      {ascending}, {descending}, {random, 1}, {random, 2}, {random, 3}};
  return schedules;
}

void detail::fail_different(const Schedule& first, const Schedule& second, std::size_t element,
                            const std::string& first_value, const std::string& second_value) {
  fail(ErrorKind::internal, last_kernel(),
       "the output depends on the schedule: element {} is {} under {} and {} under {}", element,
       first_value, first.to_string(), second_value, second.to_string());
}

}  // namespace cmir::kernels::simt
