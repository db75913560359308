// Mean pooling over time against plain loops.
#include "kernels/pool/mean_pool.h"

#include "bench/compare.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t samples = 48, length, width;
  std::vector<std::int64_t> offsets;
  std::vector<float> x, dy, y, dx;

  explicit Data(benchmark::State& state)
      : length(state.range(0)),
        width(state.range(1)),
        offsets(even_offsets(samples, length)),
        x(normals(samples * length * width, 1)),
        dy(normals(samples * width, 2)),
        y(samples * width),
        dx(x.size()) {}
  MeanPoolForward<float> forward() { return {x.data(), offsets.data(), y.data(), samples, width}; }
  MeanPoolBackward<float> backward() {
    return {dy.data(), offsets.data(), dx.data(), samples, width};
  }
};

/// Feature by feature, as the formula reads.
void naive(const Data& d, std::vector<float>& y) {
  for (std::int64_t s = 0; s < d.samples; ++s) {
    for (std::int64_t j = 0; j < d.width; ++j) {
      float sum = 0;
      for (std::int64_t r = d.offsets[s]; r < d.offsets[s + 1]; ++r) sum += d.x[r * d.width + j];
      y[s * d.width + j] = sum / static_cast<float>(d.length);
    }
  }
}
void naive_backward(const Data& d, std::vector<float>& dx) {
  for (std::int64_t i = 0; i < d.samples * d.length * d.width; ++i) {
    dx[i] = d.dy[i / (d.length * d.width) * d.width + i % d.width] / static_cast<float>(d.length);
  }
}

void forward_naive(benchmark::State& state) {
  Data d(state);
  for (auto _ : state) {
    naive(d, d.y);
    benchmark::ClobberMemory();
  }
  count(state, d.forward());
}
void forward(benchmark::State& state) {
  Data d(state);
  run({}, d.forward());
  std::vector<float> expected(d.y.size());
  naive(d, expected);
  if (!agree(state, d.y, expected, 1e-5)) return;
  for (auto _ : state) run({}, d.forward());
  count(state, d.forward());
}
void backward_naive(benchmark::State& state) {
  Data d(state);
  for (auto _ : state) {
    naive_backward(d, d.dx);
    benchmark::ClobberMemory();
  }
  count(state, d.backward());
}
void backward(benchmark::State& state) {
  Data d(state);
  run({}, d.backward());
  std::vector<float> expected(d.dx.size());
  naive_backward(d, expected);
  if (!agree(state, d.dx, expected, 1e-6)) return;
  for (auto _ : state) run({}, d.backward());
  count(state, d.backward());
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"length", "width"})
      ->Args({12, 150})
      ->Args({50, 150})
      ->Args({600, 20})
      ->Unit(benchmark::kMicrosecond);
}
BENCHMARK(forward_naive)->Apply(sizes);
BENCHMARK(forward)->Apply(sizes);
BENCHMARK(backward_naive)->Apply(sizes);
BENCHMARK(backward)->Apply(sizes);

}  // namespace
}  // namespace cmir::kernels
