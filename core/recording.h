// Work of a simt device, done at once or noted down for a Graph (core/graph.h).
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "core/device.h"

namespace cmir {

using RecordedCalls = std::vector<std::function<void()>>;

namespace detail {
/// The graph that this thread captures on simt; null when it captures none.
inline constinit thread_local RecordedCalls* recorded_calls = nullptr;
}  // namespace detail

/// This thread captures a graph on simt, so work on that device must not be done now.
inline bool records(Device device) {
  return device.type == DeviceType::simt && detail::recorded_calls != nullptr;
}

/// Calls `work`, which works on the memory of `device`, now or at each replay.
template <class Work>
void do_or_record(Device device, Work&& work) {
  if (records(device)) {
    detail::recorded_calls->emplace_back(std::forward<Work>(work));
  } else {
    work();
  }
}

}  // namespace cmir
