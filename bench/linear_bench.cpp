// The linear layer with bias and gelu fused behind the product against product, bias and gelu as
// three passes over the result; and its activation gradient with the bias gradient in one pass
// against two. With relu (or nothing) and dropout: all behind the product against dropout as a
// kernel of its own, and the gradients likewise. In bf16 the rounding of x and weight is counted;
// on a CPU that only costs time.
#include "kernels/matrix/linear.h"

#include "bench/compare.h"
#include "kernels/dropout/dropout.h"
#include "kernels/elementwise/binary.h"
#include "kernels/elementwise/round.h"
#include "kernels/matrix/gemm.h"
#include "kernels/reduce/sum.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, in, out;
  std::vector<float> x, weight, bias, y, dy, dz, sums;
  std::vector<double> workspace;
  std::vector<BFloat16> x_rounded, weight_rounded;

  explicit Data(benchmark::State& state)
      : rows(state.range(0)),
        in(state.range(1)),
        out(state.range(2)),
        x(normals(rows * in, 1)),
        weight(normals(out * in, 2)),
        bias(normals(out, 3)),
        y(rows * out),
        dy(normals(rows * out, 4)),
        dz(rows * out),
        sums(out),
        workspace(ActivationBackward<float>::workspace_size(rows, out)),
        x_rounded(rows * in),
        weight_rounded(out * in) {}

  LinearForward<float> forward() {
    return {x.data(), weight.data(), bias.data(), Activation::gelu, nullptr, y.data(), rows, in,
            out};
  }
  ActivationBackward<float> backward() {
    return {Activation::gelu, dy.data(),       y.data(), dz.data(), rows, out,
            sums.data(),      workspace.data()};
  }
};

std::vector<float> naive(const Data& d) {
  std::vector<float> y(d.rows * d.out);
  for (std::int64_t r = 0; r < d.rows; ++r) {
    for (std::int64_t o = 0; o < d.out; ++o) {
      double sum = d.bias[o];
      for (std::int64_t i = 0; i < d.in; ++i)
        sum += static_cast<double>(d.x[r * d.in + i]) * d.weight[o * d.in + i];
      y[r * d.out + o] = static_cast<float>(sum * 0.5 * std::erfc(-sum / std::sqrt(2.0)));
    }
  }
  return y;
}

void three_passes(Data& d) {
  run({}, Gemm<float>{.transpose_b = true,
                      .m = d.rows,
                      .n = d.out,
                      .k = d.in,
                      .a = d.x.data(),
                      .lda = d.in,
                      .b = d.weight.data(),
                      .ldb = d.in,
                      .c = d.y.data(),
                      .ldc = d.out});
  run({},
      Binary<float>{BinaryOperation::add, d.y.data(), d.bias.data(), d.y.data(), d.rows, d.out});
  run({}, ActivationForward<float>{Activation::gelu, d.y.data(), d.y.data(), d.rows * d.out});
}

void bf16(Data& d) {
  run({}, RoundToBFloat16<float>{d.x.data(), d.x_rounded.data(), d.rows * d.in});
  run({}, RoundToBFloat16<float>{d.weight.data(), d.weight_rounded.data(), d.out * d.in});
  run({}, LinearForward<BFloat16>{d.x_rounded.data(), d.weight_rounded.data(), d.bias.data(),
                                  Activation::gelu, nullptr, d.y.data(), d.rows, d.in, d.out});
}

template <class Step>
void forward(benchmark::State& state, Step step, double tolerance) {
  Data d(state);
  step(d);
  if (!agree(state, d.y, naive(d), tolerance)) return;
  for (auto _ : state) step(d);
  count(state, d.forward());
}

template <class Step>
void backward(benchmark::State& state, Step step) {
  Data d(state);
  d.y = normals(d.rows * d.out, 5);  // the pre-activation
  step(d);
  std::vector<float> dz(d.dz.size()), sums(d.out);
  for (std::size_t i = 0; i < dz.size(); ++i) {
    const double z = d.y[i];
    dz[i] = static_cast<float>(
        d.dy[i] * (0.5 * std::erfc(-z / std::sqrt(2.0)) + z * std::exp(-z * z / 2) / 2.5066282746));
    sums[i % d.out] += dz[i];
  }
  if (!agree(state, d.dz, dz, 1e-5) || !agree(state, d.sums, sums, 1e-2)) return;
  for (auto _ : state) step(d);
  count(state, d.backward());
}

const DropoutMask kMask{0.3, {.seed = 5, .step = 1, .site = 2}};

LinearForward<float> forward_of(Data& d, Activation activation, const DropoutMask& mask) {
  auto args = d.forward();
  args.activation = activation;
  args.dropout = mask;
  return args;
}
/// Its result goes where it is given, since ops of the tape do not overwrite what was saved.
void dropped_forward_apart(Data& d, Activation activation, std::vector<float>& y) {
  run({}, forward_of(d, activation, {}));
  run({}, Dropout<float>{d.y.data(), y.data(), d.rows * d.out, kMask.p, kMask.stream});
}

void dropped_forward(benchmark::State& state, Activation activation, bool fused) {
  Data d(state);
  std::vector<float> y(d.y.size());
  dropped_forward_apart(d, activation, y);
  run({}, forward_of(d, activation, kMask));
  if (!agree(state, d.y, y, 0)) return;
  for (auto _ : state) {
    fused ? run({}, forward_of(d, activation, kMask)) : dropped_forward_apart(d, activation, y);
  }
  count(state, forward_of(d, activation, kMask));
}

ActivationBackward<float> backward_of(Data& d, Activation activation, const DropoutMask& mask) {
  auto args = d.backward();
  args.activation = activation;
  args.dropout = mask;
  return args;
}
void dropped_backward_apart(Data& d, Activation activation, std::vector<float>& between) {
  run({}, Dropout<float>{d.dy.data(), between.data(), d.rows * d.out, kMask.p, kMask.stream});
  auto args = backward_of(d, activation, {});
  args.dy = between.data();
  run({}, args);
}

void dropped_backward(benchmark::State& state, Activation activation, bool fused) {
  Data d(state);
  std::vector<float> between(d.dy.size());
  run({}, forward_of(d, activation, {}));
  dropped_backward_apart(d, activation, between);
  const auto dz = d.dz, sums = d.sums;
  auto dropped = d.y;
  run({}, Dropout<float>{d.y.data(), dropped.data(), d.rows * d.out, kMask.p, kMask.stream});
  if (fused) d.y = dropped;
  const auto step = [&] {
    fused ? run({}, backward_of(d, activation, kMask))
          : dropped_backward_apart(d, activation, between);
  };
  step();
  if (!agree(state, d.dz, dz, 0) || !agree(state, d.sums, sums, 0)) return;
  for (auto _ : state) step();
  count(state, backward_of(d, activation, kMask));
}

void sizes(benchmark::internal::Benchmark* b) {
  b->Args({48, 150, 256})->Args({480, 256, 256})->Args({2400, 150, 600})->UseRealTime();
}
BENCHMARK_CAPTURE(
    forward, fused, [](Data& d) { run({}, d.forward()); }, 1e-3)
    ->Apply(sizes);
BENCHMARK_CAPTURE(forward, three_passes, three_passes, 1e-3)->Apply(sizes);
BENCHMARK_CAPTURE(forward, bf16, bf16, 0.5)->Apply(sizes);  // 2^-7 of sums of products of normals
BENCHMARK_CAPTURE(backward, fused, [](Data& d) { run({}, d.backward()); })->Apply(sizes);
BENCHMARK_CAPTURE(backward, two_passes, [](Data& d) {
  auto activation = d.backward();
  activation.column_sums = nullptr;
  run({}, activation);
  run({}, SumOverRows<float>{1.0, d.dz.data(), nullptr, d.sums.data(), d.workspace.data(), d.rows,
                             d.out});
})->Apply(sizes);
BENCHMARK_CAPTURE(dropped_forward, relu_apart, Activation::relu, false)->Apply(sizes);
BENCHMARK_CAPTURE(dropped_forward, relu_fused, Activation::relu, true)->Apply(sizes);
BENCHMARK_CAPTURE(dropped_forward, none_apart, Activation::none, false)->Apply(sizes);
BENCHMARK_CAPTURE(dropped_forward, none_fused, Activation::none, true)->Apply(sizes);
BENCHMARK_CAPTURE(dropped_backward, relu_apart, Activation::relu, false)->Apply(sizes);
BENCHMARK_CAPTURE(dropped_backward, relu_fused, Activation::relu, true)->Apply(sizes);
BENCHMARK_CAPTURE(dropped_backward, none_apart, Activation::none, false)->Apply(sizes);
BENCHMARK_CAPTURE(dropped_backward, none_fused, Activation::none, true)->Apply(sizes);

}  // namespace
}  // namespace cmir::kernels
