// Kernels with one planted fault, and what must be said of it.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "kernels/simt/schedule.h"

namespace cmir::kernels::simt::testing {

/// The message of the Error that launching throws, under the current schedule; "" if it throws
/// none.
template <class... Arguments>
std::string fault_message(void (*kernel)(Arguments...), const LaunchConfig& config,
                          std::type_identity_t<Arguments>... arguments) {
  try {
    launch(kernel, config, arguments...);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

/// Runs check() under every tried schedule: a fault must be found under each.
template <class Check>
void under_every_schedule(Check&& check) {
  for (const Schedule& schedule : tried_schedules()) {
    const ScheduleScope scope(schedule);
    SCOPED_TRACE(schedule.to_string());
    check();
  }
}

}  // namespace cmir::kernels::simt::testing
