// A linear layer's gradients with those of the relu before it and of its bias: on a GPU
// cuBLASLt's epilogues, on the CPU a product and a pass.
#include "kernels/matrix/linear_backward.h"

#include "bench/harness.h"

namespace cmir::kernels {
namespace {

using namespace bench;

/// A relu layer of few inputs, and the layer behind it.
template <class T>
struct Data {
  static constexpr std::int64_t kInputs = 8;
  std::int64_t rows, in, out;
  Array<T> inputs, first, dy, weight;
  Array<float> x, dz, dbias;
  Array<double> workspace;
  Array<std::uint8_t> mask;
  LinearForward<T> relu;

  explicit Data(const benchmark::State& state)
      : rows(state.range(0)),
        in(state.range(1)),
        out(state.range(2)),
        inputs(normals_of<T>(rows * kInputs, 1)),
        first(normals_of<T>(in * kInputs, 2)),
        dy(normals_of<T>(rows * out, 3)),
        weight(normals_of<T>(out * in, 4)),
        x(rows * in),
        dz(rows * in),
        dbias(in),
        workspace(ActivationBackward<float>::workspace_size(rows, in)),
        mask(relu_mask_bytes(rows, in)),
        relu{.x = inputs.data(),
             .weight = first.data(),
             .bias = nullptr,
             .activation = Activation::relu,
             .pre_activation = nullptr,
             .y = x.data(),
             .rows = rows,
             .in = kInputs,
             .out = in,
             .relu_mask = mask.data()} {
    run(device(), relu);
    x.fetch();
  }
  LinearReluGradient<T> args() {
    return {relu, dy.data(), weight.data(), dz.data(), dbias.data(), workspace.data(), out};
  }
  bool is_right(benchmark::State& state) {
    std::vector<double> expected(rows * in), sums(in);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t o = 0; o < out; ++o) {
        const double d = as_double(dy[r * out + o]);
        for (std::int64_t i = 0; i < in; ++i) {
          expected[r * in + i] += x[r * in + i] > 0 ? d * as_double(weight[o * in + i]) : 0.0;
        }
      }
      for (std::int64_t i = 0; i < in; ++i) sums[i] += expected[r * in + i];
    }
    return agree(state, dz, expected, 1e-3) &&
           agree(state, dbias, sums, 1e-3 * std::sqrt(static_cast<double>(rows)));
  }
};

template <class T>
void relu_gradient(benchmark::State& state) {
  Data<T> d(state);
  measure(state, d.args(), [&] { return d.is_right(state); });
}

void weight_gradient(benchmark::State& state) {
  const std::int64_t rows = state.range(0), in = state.range(1), out = state.range(2);
  Array<float> dy(normals(rows * out, 1)), x(normals(rows * in, 2)), dweight(out * in), dbias(out);
  Array<double> workspace(ActivationBackward<float>::workspace_size(rows, out));
  const LinearWeightGradient<float> args{
      dy.data(), x.data(), dweight.data(), dbias.data(), workspace.data(), rows, in, out};
  measure(state, args, [&] {
    std::vector<double> expected(out * in), sums(out);
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t o = 0; o < out; ++o) {
        sums[o] += dy[r * out + o];
        for (std::int64_t i = 0; i < in; ++i)
          expected[o * in + i] += double{dy[r * out + o]} * x[r * in + i];
      }
    }
    return agree(state, dweight, expected, 1e-3) &&
           agree(state, dbias, sums, 1e-4 * std::sqrt(static_cast<double>(rows)));
  });
}

const Table kTable = {{"rows", "in", "out"},
                      {{48, 256, 150}, {480, 256, 256}, {2400, 600, 150}},
                      {{38400, 256, 256}}};
const Register registered{
    with_references({kernel<LinearReluGradient<float>>(kTable, relu_gradient<float>),
                     kernel<LinearReluGradient<BFloat16>>(kTable, relu_gradient<BFloat16>),
                     kernel<LinearWeightGradient<float>>(kTable, weight_gradient)})};

}  // namespace
}  // namespace cmir::kernels
