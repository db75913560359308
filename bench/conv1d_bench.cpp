// Conv1D over packed sequences against plain loops, and against gathering every window and one BLAS
// product.
#include "kernels/convolution/conv1d.h"

#include "bench/compare.h"
#include "kernels/matrix/gemm.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr std::int64_t kLength = 50;

struct Data {
  Conv1dSizes s;
  std::vector<std::int64_t> offsets;
  std::vector<float> x, weight, bias, dy, y, dx, dweight, dbias, workspace;

  explicit Data(benchmark::State& state)
      : s{state.range(0) / kLength * kLength, state.range(0) / kLength, state.range(1), 150, 3},
        offsets(even_offsets(s.samples, kLength)),
        x(normals(s.rows * s.in, 1)),
        weight(normals(s.out * s.window(), 2)),
        bias(normals(s.out, 3)),
        dy(normals(s.rows * s.out, 4)),
        y(s.rows * s.out),
        dx(s.rows * s.in),
        dweight(s.out * s.window()),
        dbias(s.out) {}

  Conv1dForward<float> forward() {
    workspace.resize(conv1d_forward_workspace<float>(s));
    return {x.data(), offsets.data(), weight.data(), bias.data(), y.data(), s, workspace.data()};
  }
  Conv1dBackwardInput<float> backward_input() {
    workspace.resize(conv1d_backward_input_workspace<float>(s));
    return {dy.data(), offsets.data(), weight.data(), dx.data(), s, workspace.data()};
  }
  Conv1dBackwardWeight<float> backward_weight() {
    workspace.resize(conv1d_backward_weight_workspace<float>(s));
    return {x.data(), offsets.data(), dy.data(), dweight.data(), dbias.data(), s, workspace.data()};
  }
};

/// Calls f(y index, x index, weight index) for every product.
template <class F>
void for_each_product(const Data& d, F&& f) {
  const Conv1dSizes& s = d.s;
  for (std::int64_t r = 0; r < s.rows; ++r) {
    for (std::int64_t t = 0; t < s.taps; ++t) {
      const std::int64_t source = r + t - s.padding();
      if (source < r / kLength * kLength || source >= (r / kLength + 1) * kLength) continue;
      for (std::int64_t o = 0; o < s.out; ++o) {
        for (std::int64_t i = 0; i < s.in; ++i)
          f(r * s.out + o, source * s.in + i, (o * s.in + i) * s.taps + t);
      }
    }
  }
}

std::vector<float> naive(const Data& d) {
  std::vector<float> y(d.s.rows * d.s.out);
  for (std::int64_t i = 0; i < d.s.rows * d.s.out; ++i) y[i] = d.bias[i % d.s.out];
  for_each_product(d, [&](auto yi, auto xi, auto wi) { y[yi] += d.x[xi] * d.weight[wi]; });
  return y;
}

void forward_naive(benchmark::State& state) {
  Data d(state);
  for (auto _ : state) benchmark::DoNotOptimize(naive(d));
  count(state, d.forward());
}

void forward_blas(benchmark::State& state) {
  Data d(state);
  const Conv1dSizes& s = d.s;
  std::vector<float> windows(s.rows * s.window()), packed(s.window() * s.out);
  const auto compute = [&] {
    for (std::int64_t i = 0; i < s.out * s.window(); ++i) {  // [out, in, taps] to [taps in, out]
      packed[(i % s.taps * s.in + i / s.taps % s.in) * s.out + i / s.window()] = d.weight[i];
    }
    std::fill(windows.begin(), windows.end(), 0.0F);
    for (std::int64_t r = 0; r < s.rows; ++r) {
      std::copy_n(d.bias.data(), s.out, d.y.data() + r * s.out);
      const std::int64_t first = std::max(r - 1, r / kLength * kLength);
      const std::int64_t last = std::min(r + 2, (r / kLength + 1) * kLength);
      std::copy(d.x.data() + first * s.in, d.x.data() + last * s.in,
                windows.data() + r * s.window() + (first - r + 1) * s.in);
    }
    run({}, Gemm<float>{.m = s.rows,
                        .n = s.out,
                        .k = s.window(),
                        .a = windows.data(),
                        .lda = s.window(),
                        .b = packed.data(),
                        .ldb = s.out,
                        .beta = 1,
                        .c = d.y.data(),
                        .ldc = s.out});
  };
  compute();
  if (!agree(state, d.y, naive(d), 1e-3)) return;
  for (auto _ : state) compute();
  count(state, d.forward());
}

void forward(benchmark::State& state) {
  Data d(state);
  const auto args = d.forward();
  run({}, args);
  if (!agree(state, d.y, naive(d), 1e-3)) return;
  for (auto _ : state) run({}, args);
  count(state, args);
}

void backward_input(benchmark::State& state) {
  Data d(state);
  const auto args = d.backward_input();
  run({}, args);
  std::vector<float> expected(d.dx.size());
  for_each_product(d, [&](auto yi, auto xi, auto wi) { expected[xi] += d.dy[yi] * d.weight[wi]; });
  if (!agree(state, d.dx, expected, 1e-3)) return;
  for (auto _ : state) run({}, args);
  count(state, args);
}

void backward_weight(benchmark::State& state) {
  Data d(state);
  const auto args = d.backward_weight();
  run({}, args);
  std::vector<float> expected(d.dweight.size());
  for_each_product(d, [&](auto yi, auto xi, auto wi) { expected[wi] += d.dy[yi] * d.x[xi]; });
  if (!agree(state, d.dweight, expected, 1e-2)) return;
  for (auto _ : state) run({}, args);
  count(state, args);
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "in"});
  for (const std::int64_t rows : {600, 2400}) {
    for (const std::int64_t in : {5, 20, 47, 74, 150}) b->Args({rows, in});
  }
  b->Unit(benchmark::kMicrosecond);
}
BENCHMARK(forward_naive)->ArgNames({"rows", "in"})->Args({600, 74})->Unit(benchmark::kMicrosecond);
BENCHMARK(forward_blas)->Apply(sizes);
BENCHMARK(forward)->Apply(sizes);
BENCHMARK(backward_input)->Apply(sizes);
BENCHMARK(backward_weight)->Apply(sizes);

}  // namespace
}  // namespace cmir::kernels
