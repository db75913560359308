// Masked softmax against plain loops.
#include "kernels/softmax/softmax.h"

#include "bench/compare.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, width;
  std::vector<std::int64_t> lengths;
  std::vector<float> x, dy, y, dx;

  explicit Data(benchmark::State& state)
      : rows(state.range(0)),
        width(state.range(1)),
        lengths(rows),
        x(normals(rows * width, 1)),
        dy(normals(rows * width, 2)),
        y(rows * width),
        dx(rows * width) {
    for (std::int64_t r = 0; r < rows; ++r) lengths[r] = width - r % (width / 4);
  }
  SoftmaxForward<float> forward() { return {x.data(), lengths.data(), y.data(), rows, width}; }
  SoftmaxBackward<float> backward() {
    return {y.data(), lengths.data(), dy.data(), dx.data(), rows, width};
  }
};

void naive(const Data& d, std::vector<float>& y) {
  y.assign(d.x.size(), 0);
  for (std::int64_t r = 0; r < d.rows; ++r) {
    const float* x = d.x.data() + r * d.width;
    float* out = y.data() + r * d.width;
    const float maximum = *std::max_element(x, x + d.lengths[r]);
    float sum = 0;
    for (std::int64_t j = 0; j < d.lengths[r]; ++j) sum += out[j] = std::exp(x[j] - maximum);
    for (std::int64_t j = 0; j < d.lengths[r]; ++j) out[j] /= sum;
  }
}
void naive_backward(const Data& d, std::vector<float>& dx) {
  dx.assign(d.x.size(), 0);
  for (std::int64_t r = 0; r < d.rows; ++r) {
    float dot = 0;
    for (std::int64_t j = 0; j < d.width; ++j) dot += d.y[r * d.width + j] * d.dy[r * d.width + j];
    for (std::int64_t j = 0; j < d.width; ++j) {
      dx[r * d.width + j] = d.y[r * d.width + j] * (d.dy[r * d.width + j] - dot);
    }
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
  std::vector<float> expected;
  naive(d, expected);
  if (!agree(state, d.y, expected, 1e-6)) return;
  for (auto _ : state) run({}, d.forward());
  count(state, d.forward());
}
void backward_naive(benchmark::State& state) {
  Data d(state);
  run({}, d.forward());
  for (auto _ : state) {
    naive_backward(d, d.dx);
    benchmark::ClobberMemory();
  }
  count(state, d.backward());
}
void backward(benchmark::State& state) {
  Data d(state);
  run({}, d.forward());
  run({}, d.backward());
  std::vector<float> expected;
  naive_backward(d, expected);
  if (!agree(state, d.dx, expected, 1e-5)) return;
  for (auto _ : state) run({}, d.backward());
  count(state, d.backward());
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "width"})
      ->Args({12000, 12})
      ->Args({12000, 50})
      ->Args({600, 600})
      ->Unit(benchmark::kMicrosecond);
}
BENCHMARK(forward_naive)->Apply(sizes);
BENCHMARK(forward)->Apply(sizes);
BENCHMARK(backward_naive)->Apply(sizes);
BENCHMARK(backward)->Apply(sizes);

}  // namespace
}  // namespace cmir::kernels
