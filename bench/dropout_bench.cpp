// Dropout with vectorised Philox against the stream's own element-by-element words.
#include "kernels/dropout/dropout.h"

#include <algorithm>

#include "bench/harness.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  Array<float> x, y;

  explicit Data(benchmark::State& state) : x(normals(state.range(0), 1)), y(state.range(0)) {}
  Dropout<float> args() {
    return {x.data(), y.data(), x.size(), 0.3, {.seed = 5, .step = 1, .site = 2}};
  }
};

std::vector<float> naive(const Data& d, const RandomStream& stream) {
  std::vector<float> y(d.x.size());
  for (std::int64_t i = 0; i < d.x.size(); i += 4) {
    const auto words = stream.words(i / 4);
    for (std::int64_t j = i; j < std::min(d.x.size(), i + 4); ++j) {
      const bool kept = RandomStream::uniform_of(words[j - i]) >= 0.3;
      y[j] = kept ? d.x[j] * static_cast<float>(1 / 0.7) : 0.0F;
    }
  }
  return y;
}

void dropout(benchmark::State& state) {
  Data d(state);
  const auto args = d.args();
  measure(state, args, [&] { return agree(state, d.y, naive(d, args.stream), 1e-6); });
}
void dropout_naive(benchmark::State& state) {
  Data d(state);
  const auto args = d.args();
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d, args.stream)); }, cost_of(args));
}

const Table kTable = {{"count"}, {{48 * 150}, {480 * 256}, {2400 * 600}}, {{1 << 25}}};
const Register registered{{
    kernel<Dropout<float>>(kTable, dropout),
    peer<Dropout<float>>("naive", kTable, dropout_naive),
}};

}  // namespace
}  // namespace cmir::kernels
