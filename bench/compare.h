// What benchmarks share: data, offsets, and the comparison that comes before any timing.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "core/philox.h"

namespace cmir::bench {

inline std::vector<float> normals(std::int64_t count, std::uint64_t seed) {
  std::vector<float> values(count);
  const RandomStream stream{.seed = seed};
  for (std::int64_t i = 0; i < count; ++i) values[i] = stream.normal(i);
  return values;
}

/// Offsets of `samples` sequences of `length` rows.
inline std::vector<std::int64_t> even_offsets(std::int64_t samples, std::int64_t length) {
  std::vector<std::int64_t> offsets(samples + 1);
  for (std::int64_t s = 0; s <= samples; ++s) offsets[s] = s * length;
  return offsets;
}

/// True when both agree to `tolerance` absolutely; otherwise the benchmark is skipped with an
/// error, so nothing wrong is timed.
inline bool agree(benchmark::State& state, const std::vector<float>& actual,
                  const std::vector<float>& expected, double tolerance) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::abs(actual[i] - expected[i]) <= tolerance) continue;
    state.SkipWithError(("element " + std::to_string(i) + " is " + std::to_string(actual[i]) +
                         ", the naive form gives " + std::to_string(expected[i]))
                            .c_str());
    return false;
  }
  return true;
}

/// Reports Gflop/s and GB/s of a kernel whose arguments know their operations and bytes.
template <class Args>
void count(benchmark::State& state, const Args& args) {
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["Gflop"] = benchmark::Counter(args.operations() * 1e-9, rate);
  state.counters["GB"] = benchmark::Counter(args.bytes() * 1e-9, rate);
}

}  // namespace cmir::bench
