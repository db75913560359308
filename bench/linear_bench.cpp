// The linear layer with what follows the product fused behind it (gelu; relu, or nothing, with
// dropout) against separate passes over the result; and the gradient of what follows, with the bias
// gradient in the same pass, likewise. The product in bf16 too: on a GPU to see what tensor cores
// gain, on a CPU, with the rounding of its factors, to see what it costs.
#include "kernels/matrix/linear.h"

#include <algorithm>

#include "bench/harness.h"
#include "kernels/dropout/dropout.h"
#include "kernels/elementwise/binary.h"
#include "kernels/elementwise/round.h"
#include "kernels/matrix/gemm.h"
#include "kernels/reduce/sum.h"

namespace cmir::kernels {
namespace {

using namespace bench;

/// What follows the product.
struct Form {
  std::string name;
  Activation activation;
  DropoutMask dropout = {};

  float keep(std::int64_t i) const {
    if (dropout.p == 0) return 1;
    return dropout.stream.uniform(i) >= dropout.p ? static_cast<float>(dropout.scale()) : 0.0F;
  }
  double forward(double z) const {
    if (activation == Activation::gelu) return z * 0.5 * std::erfc(-z / std::sqrt(2.0));
    return activation == Activation::relu ? std::max(z, 0.0) : z;
  }
  double derivative(double z) const {
    if (activation == Activation::relu) return z > 0 ? 1 : 0;
    if (activation == Activation::none) return 1;
    return 0.5 * std::erfc(-z / std::sqrt(2.0)) + z * std::exp(-z * z / 2) / 2.5066282746;
  }
};
const DropoutMask kDropout{0.3, {.seed = 5, .step = 1, .site = 2}};
const Form kGelu{"gelu", Activation::gelu}, kRelu{"relu_dropout", Activation::relu, kDropout},
    kNone{"dropout", Activation::none, kDropout};

/// T: of x and weight, f32 or bf16.
template <class T>
struct Data {
  Form form;
  std::int64_t rows, in, out;
  Array<T> x, weight;
  Array<float> bias, y, z, saved, dy, dz, sums;
  Array<double> workspace;

  Data(const benchmark::State& state, const Form& f)
      : form(f),
        rows(state.range(0)),
        in(state.range(1)),
        out(state.range(2)),
        x(normals_of<T>(rows * in, 1)),
        weight(normals_of<T>(out * in, 2)),
        bias(normals(out, 3)),
        y(rows * out),
        z(normals(rows * out, 5)),  // for backward
        saved(z),
        dy(normals(rows * out, 4)),
        dz(rows * out),
        sums(out),
        workspace(ActivationBackward<float>::workspace_size(rows, out)) {
    if (form.activation != Activation::relu) return;
    for (std::int64_t i = 0; i < z.size(); ++i) saved[i] = std::max(z[i], 0.0F) * form.keep(i);
  }

  LinearForward<T> forward() {
    return {.x = x.data(),
            .weight = weight.data(),
            .bias = bias.data(),
            .activation = form.activation,
            .pre_activation = nullptr,
            .y = y.data(),
            .rows = rows,
            .in = in,
            .out = out,
            .dropout = form.dropout};
  }
  ActivationBackward<float> backward() {
    return {.activation = form.activation,
            .dy = dy.data(),
            .saved = saved.data(),
            .dx = dz.data(),
            .rows = rows,
            .width = out,
            .column_sums = sums.data(),
            .workspace = workspace.data(),
            .dropout = form.dropout};
  }
};

template <class T>
bool forward_is_right(benchmark::State& state, Data<T>& d) {
  std::vector<float> y(d.rows * d.out);
  for (std::int64_t r = 0; r < d.rows; ++r) {
    for (std::int64_t o = 0; o < d.out; ++o) {
      double sum = d.bias[o];
      for (std::int64_t i = 0; i < d.in; ++i)
        sum += as_double(d.x[r * d.in + i]) * as_double(d.weight[o * d.in + i]);
      const std::int64_t at = r * d.out + o;
      y[at] = static_cast<float>(d.form.forward(sum) * d.form.keep(at));
    }
  }
  return agree(state, d.y, y, 1e-3);
}

bool backward_is_right(benchmark::State& state, Data<float>& d) {
  std::vector<double> dz(d.dz.size()), sums(d.out);
  for (std::size_t i = 0; i < dz.size(); ++i) {
    dz[i] = d.dy[i] * d.form.keep(i) * d.form.derivative(d.z[i]);
    sums[i % d.out] += dz[i];
  }
  return agree(state, d.dz, dz, 1e-5) &&
         agree(state, d.sums, sums, 2e-4 * std::sqrt(static_cast<double>(d.rows)));
}

/// Product, bias and gelu.
void gelu_in_three_passes(Data<float>& d) {
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

/// All but dropout, and dropout; not in place, since the tape does not overwrite what was saved.
void dropout_apart(Data<float>& d) {
  auto args = d.forward();
  args.dropout = {};
  args.y = d.z.data();
  run({}, args);
  run({}, Dropout<float>{d.z.data(), d.y.data(), d.y.size(), kDropout.p, kDropout.stream});
}

/// The gradient, and then its sums.
void gelu_backward_in_two_passes(Data<float>& d) {
  auto args = d.backward();
  args.column_sums = nullptr;
  run({}, args);
  run({}, SumOverRows<float>{1.0, d.dz.data(), nullptr, d.sums.data(), d.workspace.data(), d.rows,
                             d.out});
}

/// Dropout's gradient, and then the rest.
void dropout_backward_apart(Data<float>& d) {
  run({}, Dropout<float>{d.dy.data(), d.y.data(), d.y.size(), kDropout.p, kDropout.stream});
  auto args = d.backward();
  args.dropout = {};
  args.dy = d.y.data();
  run({}, args);
}

template <class T>
Function forward(const Form& form) {
  return [form](benchmark::State& state) {
    Data<T> d(state, form);
    measure(state, d.forward(), [&] {
      hand_over(state, [&] {
        return NamedTensors{{"x", tensor_of(d.x)},
                            {"weight", tensor_of(d.weight)},
                            {"bias", tensor_of(d.bias)},
                            {"out.y", tensor_of(d.y)}};
      });
      return forward_is_right(state, d);
    });
  };
}
Function backward(const Form& form) {
  return [form](benchmark::State& state) {
    Data<float> d(state, form);
    measure(state, d.backward(), [&] { return backward_is_right(state, d); });
  };
}
Function forward_apart(const Form& form, void (*step)(Data<float>&)) {
  return [form, step](benchmark::State& state) {
    Data<float> d(state, form);
    step(d);
    if (!forward_is_right(state, d)) return;
    time_calls(
        state, [&] { step(d); }, cost_of(d.forward()));
  };
}
Function backward_apart(const Form& form, void (*step)(Data<float>&)) {
  return [form, step](benchmark::State& state) {
    Data<float> d(state, form);
    step(d);
    if (!backward_is_right(state, d)) return;
    time_calls(
        state, [&] { step(d); }, cost_of(d.backward()));
  };
}

void forward_and_rounding(benchmark::State& state) {
  const Data<float> wide(state, kGelu);
  Data<BFloat16> d(state, kGelu);
  Array<float> x = wide.x, weight = wide.weight;
  const auto step = [&] {
    run({}, RoundToBFloat16<float>{x.data(), d.x.data(), x.size()});
    run({}, RoundToBFloat16<float>{weight.data(), d.weight.data(), weight.size()});
    run({}, d.forward());
  };
  step();
  if (forward_is_right(state, d)) time_calls(state, step, cost_of(d.forward()));
}

const Table kTable = {{"rows", "in", "out"},
                      {{48, 150, 256}, {480, 256, 256}, {2400, 150, 600}},
                      {{38400, 150, 256}}};
const Register registered = [] {
  using Forward = LinearForward<float>;
  using Backward = ActivationBackward<float>;
  std::vector<Entry> all = {
      peer<Forward>("three_passes", kTable, forward_apart(kGelu, gelu_in_three_passes), "gelu"),
      peer<Backward>("two_passes", kTable, backward_apart(kGelu, gelu_backward_in_two_passes),
                     "gelu"),
      kernel<LinearForward<BFloat16>>(kTable, forward<BFloat16>(kGelu), "gelu"),
      peer<LinearForward<BFloat16>>("with_rounding", kTable, forward_and_rounding, "gelu"),
  };
  for (const Form& form : {kGelu, kRelu, kNone}) {
    all.push_back(kernel<Forward>(kTable, forward<float>(form), form.name));
    all.push_back(kernel<Backward>(kTable, backward(form), form.name));
  }
  for (const Form& form : {kRelu, kNone}) {
    all.push_back(
        peer<Forward>("dropout_apart", kTable, forward_apart(form, dropout_apart), form.name));
    all.push_back(peer<Backward>("dropout_apart", kTable,
                                 backward_apart(form, dropout_backward_apart), form.name));
  }
  return Register(std::move(all));
}();

}  // namespace
}  // namespace cmir::kernels
