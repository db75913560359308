// What tracing costs a kernel that does nothing: run() while no trace is on, the same without its
// look at the trace, and run() while it is traced. Time is nanoseconds per call.
#include <benchmark/benchmark.h>

#include <string_view>

#include "core/trace.h"
#include "kernels/kernel.h"

namespace cmir::kernels {
namespace {

template <class T>
struct Nothing {
  static constexpr std::string_view name = "nothing";
  T* x;
  double bytes() const { return 0; }
  double operations() const { return 0; }
};

[[gnu::noinline]] void nothing(const Nothing<float>& args) { benchmark::DoNotOptimize(args.x); }

/// run() as it was before there was a trace.
[[gnu::noinline]] void run_untraceable(Device device, const Nothing<float>& args) {
  using Function = Variants<Nothing<float>>::Function;
  Function function = nullptr;
  for (int isa = static_cast<int>(active_isa()); isa >= 0 && function == nullptr; --isa)
    function = Variants<Nothing<float>>::cpu[isa];
  do_or_record(device, [function, args] {
    const Range range(Nothing<float>::name);
    function(args);
  });
}
[[gnu::noinline]] void run_traceable(Device device, const Nothing<float>& args) {
  run(device, args);
}

void time_calls(benchmark::State& state, void (*run_one)(Device, const Nothing<float>&)) {
  float x = 0;
  for (auto _ : state) run_one(Device{}, Nothing<float>{&x});
}

void traced(benchmark::State& state) {
  Trace trace(1, std::size_t{1} << 20);
  const TraceScope scope(&trace, "bench");
  time_calls(state, run_traceable);
  if (trace.dropped() > 0) state.SkipWithError("more calls than the trace holds");
}

const bool registered = [] {
  Variants<Nothing<float>>::cpu[0] = nothing;
  for (const char* repeated : {"", "/again"}) {  // in turns
    const std::string again = repeated;
    benchmark::RegisterBenchmark(("run/no_trace_in_the_code" + again).c_str(), time_calls,
                                 run_untraceable);
    benchmark::RegisterBenchmark(("run/trace_off" + again).c_str(), time_calls, run_traceable);
  }
  benchmark::RegisterBenchmark("run/traced", traced)->Iterations(1 << 20);
  return true;
}();

}  // namespace
}  // namespace cmir::kernels
