// A benchmark whose kernel does not do what its plain form does: what the harness makes of it.
#include "bench/harness.h"
#include "kernels/elementwise/axpy.h"

namespace cmir::kernels {
namespace {

using namespace bench;

void wrong(benchmark::State& state) {
  Array<float> x(normals(state.range(0), 1)), y(state.range(0));
  measure(state, Scale<float>{1.5F, x.data(), y.data(), y.size()}, [&] {
    std::vector<float> expected(y.size());
    for (std::int64_t i = 0; i < y.size(); ++i) expected[i] = 1.5F * x[i] + (i == 3 ? 1 : 0);
    return agree(state, y, expected, 1e-6);
  });
}

const Register registered{{kernel<Scale<float>>({{"count"}, {{8}}}, wrong)}};

}  // namespace
}  // namespace cmir::kernels
