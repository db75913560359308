// The divergence of Gaussians from the standard normal against plain loops.
#include "kernels/information/prior_divergence.h"

#include <cmath>

#include "bench/harness.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr float kCotangent = -1.5F;

struct Data {
  std::int64_t rows, width;
  double scale;
  Array<float> mu, logvar, cotangent, value, dmu, dlogvar;
  Array<double> sums;

  explicit Data(const benchmark::State& state)
      : rows(state.range(0)),
        width(state.range(1)),
        scale(1.0 / static_cast<double>(rows)),
        mu(normals(rows * width, 1)),
        logvar(normals(rows * width, 2)),
        cotangent(std::vector{kCotangent}),
        value(1),
        dmu(rows * width),
        dlogvar(rows * width),
        sums(rows) {}
  PriorDivergenceForward<float> forward() {
    return {mu.data(), logvar.data(), rows, width, scale, sums.data(), value.data()};
  }
  PriorDivergenceBackward<float> backward() {
    return {mu.data(), logvar.data(), cotangent.data(), rows,
            width,     scale,         dmu.data(),       dlogvar.data()};
  }
};

double naive(const Data& d) {
  double sum = 0;
  for (std::int64_t i = 0; i < d.mu.size(); ++i)
    sum += d.mu[i] * d.mu[i] + std::exp(d.logvar[i]) - 1 - d.logvar[i];
  return 0.5 * d.scale * sum;
}

void forward(benchmark::State& state) {
  Data d(state);
  measure(state, d.forward(), [&] {
    return agree(state, d.value, std::vector{naive(d)}, 1e-5 * static_cast<double>(d.width));
  });
}
void forward_naive(benchmark::State& state) {
  Data d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of(d.forward()));
}

void backward(benchmark::State& state) {
  Data d(state);
  measure(state, d.backward(), [&] {
    std::vector<double> dmu, dlogvar;
    for (std::int64_t i = 0; i < d.mu.size(); ++i) {
      dmu.push_back(kCotangent * d.scale * d.mu[i]);
      dlogvar.push_back(kCotangent * d.scale * 0.5 * (std::exp(d.logvar[i]) - 1));
    }
    return agree(state, d.dmu, dmu, 1e-4 * d.scale) &&
           agree(state, d.dlogvar, dlogvar, 1e-4 * d.scale);
  });
}

const Table kTable = {{"rows", "width"}, {{48, 150}, {4096, 256}}, {{1 << 18, 256}}};
const Register registered{{
    kernel<PriorDivergenceForward<float>>(kTable, forward),
    peer<PriorDivergenceForward<float>>("naive", kTable, forward_naive),
    kernel<PriorDivergenceBackward<float>>(kTable, backward),
    reference<PriorDivergenceBackward<float>>(kTable, backward),
}};

}  // namespace
}  // namespace cmir::kernels
