// What a benchmark program's JSON says of the machine and of itself.
#pragma once

namespace cmir::bench {

/// Adds to Google Benchmark's context: cpu, instruction_set, threads, compiler, flags, commit, gpu.
void add_context();

}  // namespace cmir::bench
