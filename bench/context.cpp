#include "bench/context.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <fstream>
#include <string>

#include "commit.h"
#include "core/cuda/runtime.h"
#include "core/parallel.h"
#include "kernels/kernel.h"

namespace cmir::bench {
namespace {

std::string cpu_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

}  // namespace

void add_context() {
  benchmark::AddCustomContext("cpu", cpu_name());
  benchmark::AddCustomContext("instruction_set",
                              std::string(kernels::name_of(kernels::active_isa())));
  benchmark::AddCustomContext("threads", std::to_string(thread_count()));
#ifdef __clang__
  benchmark::AddCustomContext("compiler", __VERSION__);
#else
  benchmark::AddCustomContext("compiler", "GCC " __VERSION__);
#endif
  benchmark::AddCustomContext("flags", CMIR_FLAGS);
  benchmark::AddCustomContext("commit", kCommit);
  if (cuda::device_count() > 0) benchmark::AddCustomContext("gpu", cuda::properties(0).name);
}

}  // namespace cmir::bench
