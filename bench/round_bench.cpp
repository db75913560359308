// Rounding to bf16: the kernel against a plain loop over the type's conversion.
#include "kernels/elementwise/round.h"

#include "bench/harness.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  Array<float> x;
  Array<BFloat16> y;

  explicit Data(benchmark::State& state) : x(normals(state.range(0), 1)), y(state.range(0)) {}
  RoundToBFloat16<float> args() { return {x.data(), y.data(), x.size()}; }
};

void round_to_bf16(benchmark::State& state) {
  Data d(state);
  measure(state, d.args(), [&] { return agree(state, d.y, bf16_of(d.x.host()), 0); });
}
void naive(benchmark::State& state) {
  Data d(state);
  time_calls(
      state,
      [&] {
        for (std::int64_t i = 0; i < d.x.size(); ++i) d.y[i] = BFloat16(d.x[i]);
      },
      cost_of(d.args()));
}

const Table kTable = {{"count"}, {{48 * 150}, {480 * 256}, {2400 * 600}}, {{1 << 25}}};
const Register registered{{
    kernel<RoundToBFloat16<float>>(kTable, round_to_bf16),
    peer<RoundToBFloat16<float>>("naive", kTable, naive),
}};

}  // namespace
}  // namespace cmir::kernels
