// Rounding to bf16: the kernel against a plain loop over the type's conversion.
#include "kernels/elementwise/round.h"

#include "bench/compare.h"

namespace cmir::kernels {
namespace {

using namespace bench;

void round_to_bf16(benchmark::State& state, bool kernel) {
  const std::int64_t size = state.range(0);
  const auto x = normals(size, 1);
  std::vector<BFloat16> y(size);
  const RoundToBFloat16<float> args{x.data(), y.data(), size};
  const auto loop = [&] {
    for (std::int64_t i = 0; i < size; ++i) y[i] = BFloat16(x[i]);
    benchmark::ClobberMemory();
  };
  const auto widened = [&] {
    std::vector<float> wide(size);
    for (std::int64_t i = 0; i < size; ++i) wide[i] = static_cast<float>(y[i]);
    return wide;
  };
  loop();
  const auto expected = widened();
  run({}, args);
  if (!agree(state, widened(), expected, 0)) return;
  for (auto _ : state) kernel ? run({}, args) : loop();
  count(state, args);
}

BENCHMARK_CAPTURE(round_to_bf16, kernel, true)->Arg(480 * 256)->Arg(2400 * 600)->UseRealTime();
BENCHMARK_CAPTURE(round_to_bf16, naive, false)->Arg(480 * 256)->Arg(2400 * 600)->UseRealTime();

}  // namespace
}  // namespace cmir::kernels
