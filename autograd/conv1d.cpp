#include "autograd/conv1d.h"

#include "autograd/gradcheck.h"
#include "autograd/precision.h"
#include "autograd/sequences.h"
#include "kernels/convolution/conv1d.h"

namespace cmir::ops {
namespace {

struct Conv1d {
  static constexpr std::string_view name = "conv1d";
  Tensor offsets;
  Precision precision = current_precision();  // tf32 changes nothing: no library multiplies here

  static kernels::Conv1dSizes sizes(const Tensor& x, const Tensor& offsets, const Tensor& weight) {
    return {x.size(0), offsets.numel() - 1, weight.size(1), weight.size(0), weight.size(2)};
  }

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &x = inputs[0], &weight = inputs[1], &bias = inputs[2];
    validate(x, weight, bias);
    const Sequences sequences = check_sequences(name, offsets, x);
    const auto s = sizes(x, offsets, weight);
    Tensor y = Tensor::empty({s.rows, s.out}, x.dtype(), x.device());
    const Tensor xs = as_factor(name, x, precision), weights = as_factor(name, weight, precision);
    dispatch_factor(xs.dtype(), name, [&]<class T>() {
      using Sum = SumOf<T>;
      Tensor workspace =
          Tensor::empty({kernels::conv1d_forward_workspace<T>(s)}, x.dtype(), x.device());
      kernels::run(x.device(), kernels::Conv1dForward<T>{
                                   xs.data<T>(), sequences.offsets, weights.data<T>(),
                                   bias.defined() ? bias.data<Sum>() : nullptr,
                                   y.mutable_data<Sum>(), s, workspace.mutable_data<Sum>()});
    });
    if (context.recording()) {
      for (const Tensor& tensor : {xs, offsets, weights}) context.save(tensor);
    }
    return y;
  }

  static void validate(const Tensor& x, const Tensor& weight, const Tensor& bias) {
    require(x.rank() == 2 && weight.rank() == 3 && x.size(1) == weight.size(1) &&
                x.dtype() == weight.dtype(),
            name, "needs x [rows, in] and weight [out, in, taps] of one dtype, got {} and {}",
            x.describe(), weight.describe());
    require(weight.size(2) % 2 == 1, name,
            "needs an odd number of taps to keep the length, got the weight {}", weight.describe());
    require(!bias.defined() || (bias.shape() == Shape{weight.size(0)} && bias.dtype() == x.dtype()),
            name, "the weight {} needs a bias [{}] of its dtype or none, got {}", weight.describe(),
            weight.size(0), bias.describe());
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor &x = context.saved(0), &at = context.saved(1), &weight = context.saved(2);
    const auto s = sizes(x, at, weight);
    Gradients gradients(3);
    const DType dtype = dy.dtype();
    const Tensor dys = as_factor(name, dy, precision);
    dispatch_factor(dys.dtype(), name, [&]<class T>() {
      using Sum = SumOf<T>;
      const Tensor on_device = at.on(x.device());
      const auto* bounds = on_device.data<std::int64_t>();
      if (context.needs_gradient(0)) {
        gradients[0] = Tensor::empty(x.shape(), dtype, x.device());
        Tensor workspace =
            Tensor::empty({kernels::conv1d_backward_input_workspace<T>(s)}, dtype, x.device());
        kernels::run(x.device(),
                     kernels::Conv1dBackwardInput<T>{dys.data<T>(), bounds, weight.data<T>(),
                                                     gradients[0].mutable_data<Sum>(), s,
                                                     workspace.mutable_data<Sum>()});
      }
      if (context.needs_gradient(1) || context.needs_gradient(2)) {
        gradients[1] = Tensor::empty(weight.shape(), dtype, x.device());
        if (context.needs_gradient(2)) gradients[2] = Tensor::empty({s.out}, dtype, x.device());
        Tensor workspace =
            Tensor::empty({kernels::conv1d_backward_weight_workspace<T>(s)}, dtype, x.device());
        kernels::run(x.device(),
                     kernels::Conv1dBackwardWeight<T>{
                         x.data<T>(), bounds, dys.data<T>(), gradients[1].mutable_data<Sum>(),
                         context.needs_gradient(2) ? gradients[2].mutable_data<Sum>() : nullptr, s,
                         workspace.mutable_data<Sum>()});
      }
    });
    return gradients;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](std::vector<std::int64_t> bounds) {
      return [offsets = Tensor::from(bounds, {static_cast<std::int64_t>(bounds.size())})](
                 std::span<const Variable> v) {
        return conv1d(v[0], offsets, v[1], v.size() > 2 ? v[2] : Variable());
      };
    };
    const auto inputs = [](std::int64_t rows, std::int64_t in, std::int64_t out,
                           std::int64_t taps) {
      return std::vector<Tensor>{random_normal({rows, in}, 1), random_normal({out, in, taps}, 2),
                                 random_normal({out}, 3)};
    };
    return {
        {"samples of 3, 0, 1, 2 rows", inputs(6, 2, 3, 3), with({0, 3, 3, 4, 6})},
        {"window longer than a sample", inputs(4, 1, 2, 5), with({0, 2, 4})},
        {"one tap, no bias", {random_normal({3, 2}, 1), random_normal({9, 2, 1}, 2)}, with({0, 3})},
        {"one row", inputs(1, 3, 1, 3), with({0, 1})},
        {"no rows", inputs(0, 3, 2, 3), with({0, 0})},
        {"two blocks", inputs(50, 1, 1, 3), with({0, 47, 50})}};
  }
};

}  // namespace

Variable conv1d(const Variable& x, const Tensor& offsets, const Variable& weight,
                const Variable& bias) {
  return apply_op(Conv1d{offsets}, {x, weight, bias});
}

}  // namespace cmir::ops
