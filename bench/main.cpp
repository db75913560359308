// The main() of the benchmark programs.
#include <fmt/format.h>

#include <cstdio>
#include <exception>

#include "bench/harness.h"

int main(int argc, char** argv) {
  try {
    return cmir::bench::run_benchmarks(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
