// The op under way on this thread, for error messages and for profilers.
#pragma once

#include <string_view>

namespace cmir {

/// What a profiler wants to hear; both null unless the build has one (core/cuda/runtime.cpp sets
/// them to NVTX, which does nothing itself unless a profiler is attached).
struct RangeHooks {
  void (*push)(const char* name) = nullptr;
  void (*pop)() = nullptr;
};
inline constinit RangeHooks range_hooks;

namespace detail {
inline constinit thread_local std::string_view op_under_way = "no op";
}
/// The innermost Range of this thread: "layer_norm".
inline std::string_view op_under_way() { return detail::op_under_way; }

/// Names what this thread does while it is alive.
class Range {
 public:
  /// `name` must be the whole of a string literal (it is read up to its terminator).
  explicit Range(std::string_view name) : outer_(detail::op_under_way) {
    detail::op_under_way = name;
    if (range_hooks.push != nullptr) range_hooks.push(name.data());
  }
  ~Range() {
    if (range_hooks.pop != nullptr) range_hooks.pop();
    detail::op_under_way = outer_;
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  std::string_view outer_;
};

}  // namespace cmir
