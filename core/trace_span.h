// Spans of a trace (core/trace.h), for the code that they name. A thread notes them only while a
// TraceScope is alive on it; otherwise a span costs one look at a thread-local pointer.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/device.h"

namespace cmir {

class TraceBuffer;
namespace cuda {
class KernelTimes;
}

/// From the outermost to the innermost. `launch` is the host's part of a kernel that runs on a GPU,
/// `share` what one thread does of a parallel_for.
enum class TraceKind : std::uint8_t { step, phase, op, kernel, launch, share };
std::string_view name_of(TraceKind kind);

/// What one call of a kernel moves and does, as its contract counts them; -1: not known.
struct TraceCost {
  std::int64_t bytes, operations;
};
inline constexpr TraceCost kNoTraceCost{-1, -1};

namespace detail {
/// Where this thread notes its spans; null: nowhere.
inline constinit thread_local TraceBuffer* trace_buffer = nullptr;
}  // namespace detail
inline bool tracing() { return detail::trace_buffer != nullptr; }

/// Notes what a thread that is traced does while this is alive.
class TraceSpan {
 public:
  /// `name` must live as long as the program.
  TraceSpan(TraceKind kind, const char* name, const TraceCost& cost = kNoTraceCost)
      : buffer_(detail::trace_buffer), name_(name), kind_(kind), cost_(cost) {
    if (buffer_ != nullptr) [[unlikely]]
      begin_ = now();
  }
  ~TraceSpan() {
    if (buffer_ != nullptr) [[unlikely]]
      note();
  }
  TraceSpan(const TraceSpan&) = delete;
  TraceSpan& operator=(const TraceSpan&) = delete;

 private:
  std::int64_t now() const;
  void note() const;

  TraceBuffer* const buffer_;
  const char* const name_;
  const TraceKind kind_;
  const TraceCost cost_;
  std::int64_t begin_ = 0;
};

/// A kernel of this thread, which is traced. On cuda it is a launch on the host and a kernel on the
/// GPU.
class TracedKernel {
 public:
  TracedKernel(Device device, const char* name, const TraceCost& cost);
  ~TracedKernel();
  TracedKernel(const TracedKernel&) = delete;
  TracedKernel& operator=(const TracedKernel&) = delete;

 private:
  const TraceSpan span_;
  cuda::KernelTimes* const times_;  // null unless it is on cuda
};

}  // namespace cmir
