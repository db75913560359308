// When kernels ran on the GPU, by an event before and one after each, for core/trace.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/cuda/runtime.h"
#include "core/trace.h"

namespace cmir::cuda {

/// Not inside a graph capture. A failing device ends the measurement without an Error: whoever
/// works on it next has one.
class KernelTimes {
 public:
  explicit KernelTimes(TraceBuffer& buffer) : buffer_(buffer) {}

  /// Around what a kernel gives to the current stream. `name` as in TraceEvent.
  void begin(const char* name, const TraceCost& cost) noexcept;
  void end() noexcept;
  /// Waits for the kernels since the last call and notes them in the buffer.
  void collect() noexcept;

 private:
  struct Kernel {
    Event begin{true}, end{true};
    const char* name = nullptr;
    TraceCost cost = kNoTraceCost;
  };
  /// Does `work`; after an Error of it nothing is done any more.
  template <class Work>
  void attempt(Work&& work) noexcept;

  TraceBuffer& buffer_;
  std::vector<Kernel> kernels_;  // reused: the first used_ are under way
  std::size_t used_ = 0;
  std::optional<Event> origin_;  // of this batch of kernels, at origin_time_
  std::int64_t origin_time_ = 0;
  bool failed_ = false;
};

}  // namespace cmir::cuda
