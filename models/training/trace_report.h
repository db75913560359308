// What a trace of training steps shows: time by phase and by kernel, and a file for a timeline
// (docs/tracing.md).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/trace.h"

namespace cmir {

/// Sums over the traced steps, in nanoseconds. The phases add up to the steps. A kernel on the CPU
/// takes the time that the training thread spends in it, one on a GPU the time that it runs there.
/// A kernel inside another one belongs to that.
struct TraceSummary {
  struct Phase {
    std::string name;
    std::int64_t time = 0;
    std::int64_t in_kernels = 0;
  };
  struct Kernel {
    std::string name;  ///< as in kernels::registered_kernels()
    std::int64_t calls = 0;
    std::int64_t time = 0;
    double bytes = 0, operations = 0;  ///< by its contract
    std::int64_t uncounted = 0;        ///< calls whose bytes and operations are not known
  };
  std::int64_t steps = 0;
  std::int64_t time = 0;
  std::vector<Phase> phases;    ///< forward, backward, optimizer, data, other
  std::vector<Kernel> kernels;  ///< the longest first
  Kernel together;              ///< the sum of the kernels
};
TraceSummary summarise(const Trace& trace);

/// Both as tables for a terminal, which end with the whole step; one line where there is none.
std::string describe(const TraceSummary& summary);

/// In the trace event format of Chrome and Perfetto: "X" events by thread, with the summary and the
/// number of dropped events under "otherData". The file is replaced as a whole. Error: kind io.
void write_trace(const Trace& trace, const std::filesystem::path& file);

}  // namespace cmir
