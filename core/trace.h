// What threads do and when, noted down for a trace of a few training steps (docs/tracing.md).
// Each thread writes to a buffer of its own, without a lock.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "core/trace_span.h"

namespace cmir {

/// Times are nanoseconds since the trace was made.
struct TraceEvent {
  const char* name;  ///< lives as long as the program
  TraceKind kind;
  std::int64_t begin, end;
  TraceCost cost;       ///< of a kernel
  std::int64_t number;  ///< of a step; -1: it is none
};
static_assert(std::is_trivially_default_constructible_v<TraceEvent>,
              "a buffer of them is not to be written, and so mapped, before it is used");

class Trace;

/// The events of one thread, in the order in which they ended. Only that thread adds to it.
class TraceBuffer {
 public:
  TraceBuffer(Trace& trace, std::string thread, std::size_t capacity);
  Trace& trace() const { return trace_; }
  const std::string& thread() const { return thread_; }
  /// A full buffer counts the event and drops it.
  void add(const TraceEvent& event);
  /// Those of now; any thread may read them.
  std::span<const TraceEvent> events() const;
  std::size_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  Trace& trace_;
  const std::string thread_;
  const std::size_t capacity_;
  std::unique_ptr<TraceEvent[]> events_;
  std::atomic<std::size_t> count_{0}, dropped_{0};
};

/// The thread that first trains owns the trace; its first step is for warming up, the next ones are
/// traced. A trace ends after `steps` steps, or with the step in which a buffer was full, which
/// does not count then.
class Trace {
 public:
  static constexpr std::int64_t kSteps = 20;
  static constexpr std::size_t kEventsPerThread = std::size_t{1} << 18;  // 14 MiB
  explicit Trace(std::int64_t steps = kSteps, std::size_t events_per_thread = kEventsPerThread);
  ~Trace();
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  std::int64_t now() const;
  /// The buffer of the thread that has this name, made if it is new. At most one at a time has it.
  TraceBuffer& buffer(const std::string& thread);
  std::vector<const TraceBuffer*> buffers() const;
  std::size_t dropped() const;
  /// A trace's own number, since another one may have its address later.
  std::uint64_t id() const { return id_; }
  /// Steps are traced at present, so other threads than the owner may note what they do, too.
  bool recording() const { return recording_.load(std::memory_order_relaxed); }
  /// This thread trains what is traced.
  bool owned_here() const { return owner_.load() == std::this_thread::get_id(); }

  /// Of kernels on the GPU, whose events are those of the thread "GPU".
  cuda::KernelTimes& kernel_times();

 private:
  friend class TraceStep;
  /// This thread is to trace the step that it begins.
  bool admits_step();
  /// Notes a step of the owner, or that a buffer was full.
  void end_step(const TraceEvent& step);

  const std::int64_t steps_;
  const std::size_t capacity_;
  const std::uint64_t id_;
  const std::int64_t start_;
  std::atomic<std::thread::id> owner_{};
  std::atomic<bool> recording_{false};
  std::int64_t begun_ = 0, done_ = 0;  // of the owner alone
  mutable std::mutex mutex_;           // of the list
  std::vector<std::unique_ptr<TraceBuffer>> buffers_;
  std::unique_ptr<cuda::KernelTimes> kernel_times_;
};

/// While alive, this thread notes its spans in the trace, under the name of `thread`, and `number`
/// where that is not 0 (a thread keeps the first name that it had in a trace). null, or no memory
/// for its buffer: it does not.
class TraceScope {
 public:
  TraceScope(Trace* trace, const char* thread, int number = 0) : outer_(detail::trace_buffer) {
    if (trace != nullptr) [[unlikely]]
      enter(*trace, thread, number);
  }
  ~TraceScope() { detail::trace_buffer = outer_; }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;

 private:
  static void enter(Trace& trace, const char* thread, int number);
  TraceBuffer* const outer_;
};

/// A training step of this thread while it is alive, traced if the trace admits it. It consists of
/// phases, which follow each other without a gap; the first is "data". A step that does not come to
/// a second one is not noted: there was no batch left.
class TraceStep {
 public:
  TraceStep(Trace* trace, std::int64_t number);
  ~TraceStep();
  TraceStep(const TraceStep&) = delete;
  TraceStep& operator=(const TraceStep&) = delete;

 private:
  friend void trace_phase(const char* name);
  /// Ends the phase under way, on a GPU once its kernels are done.
  void end_phase();

  const std::int64_t number_;
  std::optional<TraceScope> scope_;
  const char* phase_ = "data";
  std::int64_t begin_ = 0, phase_begin_ = 0;
  bool has_work_ = false;
};

/// From here on the step that this thread traces, if any, is in the phase "forward", "backward",
/// "optimizer" or "other".
void trace_phase(const char* name);

}  // namespace cmir
