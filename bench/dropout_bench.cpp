// Dropout with vectorised Philox against the stream's own element-by-element words.
#include "kernels/dropout/dropout.h"

#include "bench/compare.h"

namespace cmir::kernels {
namespace {

using namespace bench;

void dropout(benchmark::State& state, bool kernel) {
  const std::int64_t size = state.range(0);
  const auto x = normals(size, 1);
  std::vector<float> y(size), expected(size);
  const Dropout<float> args{x.data(), y.data(), size, 0.3, {.seed = 5, .step = 1, .site = 2}};
  const auto loop = [&](std::vector<float>& out) {
    for (std::int64_t i = 0; i < size; i += 4) {
      const auto words = args.stream.words(i / 4);
      for (std::int64_t j = i; j < std::min(size, i + 4); ++j) {
        out[j] = RandomStream::uniform_of(words[j - i]) >= 0.3 ? x[j] * static_cast<float>(1 / 0.7)
                                                               : 0.0F;
      }
    }
    benchmark::ClobberMemory();
  };
  loop(expected);
  run({}, args);
  if (!agree(state, y, expected, 1e-6)) return;
  for (auto _ : state) kernel ? run({}, args) : loop(y);
  count(state, args);
}

BENCHMARK_CAPTURE(dropout, kernel, true)
    ->Arg(48 * 150)
    ->Arg(480 * 256)
    ->Arg(2400 * 600)
    ->UseRealTime();
BENCHMARK_CAPTURE(dropout, naive, false)
    ->Arg(48 * 150)
    ->Arg(480 * 256)
    ->Arg(2400 * 600)
    ->UseRealTime();

}  // namespace
}  // namespace cmir::kernels
