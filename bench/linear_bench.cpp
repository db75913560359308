// The linear layer with bias and gelu fused behind the product against product, bias and gelu as
// three passes over the result; and its activation gradient with the bias gradient in one pass
// against two.
#include "kernels/matrix/linear.h"

#include "bench/harness.h"
#include "kernels/elementwise/binary.h"
#include "kernels/matrix/gemm.h"
#include "kernels/reduce/sum.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, in, out;
  Array<float> x, weight, bias, y, dy, dz, sums;
  Array<double> workspace;

  explicit Data(benchmark::State& state)
      : rows(state.range(0)),
        in(state.range(1)),
        out(state.range(2)),
        x(normals(rows * in, 1)),
        weight(normals(out * in, 2)),
        bias(normals(out, 3)),
        y(normals(rows * out, 5)),  // for backward: the pre-activation
        dy(normals(rows * out, 4)),
        dz(rows * out),
        sums(out),
        workspace(ActivationBackward<float>::workspace_size(rows, out)) {}

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

/// Product, bias and gelu.
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

/// The gradient, and then its sums.
void two_passes(Data& d) {
  auto activation = d.backward();
  activation.column_sums = nullptr;
  run({}, activation);
  run({}, SumOverRows<float>{1.0, d.dz.data(), nullptr, d.sums.data(), d.workspace.data(), d.rows,
                             d.out});
}

bool backward_is_right(benchmark::State& state, Data& d) {
  std::vector<float> dz(d.dz.size());
  std::vector<double> sums(d.out);
  for (std::size_t i = 0; i < dz.size(); ++i) {
    const double z = d.y[i];
    dz[i] = static_cast<float>(
        d.dy[i] * (0.5 * std::erfc(-z / std::sqrt(2.0)) + z * std::exp(-z * z / 2) / 2.5066282746));
    sums[i % d.out] += dz[i];
  }
  return agree(state, d.dz, dz, 1e-5) &&
         agree(state, d.sums, sums, 2e-4 * std::sqrt(static_cast<double>(d.rows)));
}

void forward(benchmark::State& state) {
  Data d(state);
  measure(state, d.forward(), [&] { return agree(state, d.y, naive(d), 1e-3); });
}
void forward_three_passes(benchmark::State& state) {
  Data d(state);
  three_passes(d);
  if (!agree(state, d.y, naive(d), 1e-3)) return;
  time_calls(
      state, [&] { three_passes(d); }, cost_of(d.forward()));
}
void backward(benchmark::State& state) {
  Data d(state);
  measure(state, d.backward(), [&] { return backward_is_right(state, d); });
}
void backward_two_passes(benchmark::State& state) {
  Data d(state);
  two_passes(d);
  if (!backward_is_right(state, d)) return;
  time_calls(
      state, [&] { two_passes(d); }, cost_of(d.backward()));
}

const Table kTable = {{"rows", "in", "out"},
                      {{48, 150, 256}, {480, 256, 256}, {2400, 150, 600}},
                      {{38400, 150, 256}}};
const Register registered{{
    kernel<LinearForward<float>>(kTable, forward, "gelu"),
    peer<LinearForward<float>>("three_passes", kTable, forward_three_passes, "gelu"),
    kernel<ActivationBackward<float>>(kTable, backward, "gelu"),
    peer<ActivationBackward<float>>("two_passes", kTable, backward_two_passes, "gelu"),
}};

}  // namespace
}  // namespace cmir::kernels
