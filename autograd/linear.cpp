#include "autograd/linear.h"

#include "autograd/gradcheck.h"
#include "autograd/precision.h"
#include "kernels/matrix/gemm.h"
#include "kernels/matrix/linear.h"

namespace cmir::ops {
namespace {

using kernels::ActivationSaves;

struct Linear {
  static constexpr std::string_view name = "linear";
  Activation activation;
  bool has_bias;
  DropoutMask dropout;
  Precision precision = current_precision();

  /// inputs: x, weight and, where there is one, bias.
  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    validate(inputs);
    const Tensor x = as_factor(name, inputs[0], precision),
                 weight = as_factor(name, inputs[1], precision);
    Tensor y = Tensor::empty(x.shape().with_width(weight.size(0)), inputs[0].dtype(), x.device());
    Tensor pre_activation;
    if (context.recording() && kernels::saved_by(activation) == ActivationSaves::input) {
      pre_activation = Tensor::empty(y.shape(), y.dtype(), y.device());
    }
    dispatch_factor(x.dtype(), name, [&]<class T>() {
      using Sum = SumOf<T>;
      kernels::run(
          x.device(),
          kernels::LinearForward<T>{
              x.data<T>(), weight.data<T>(), has_bias ? inputs[2].data<Sum>() : nullptr, activation,
              pre_activation.defined() ? pre_activation.mutable_data<Sum>() : nullptr,
              y.mutable_data<Sum>(), x.shape().rows(), weight.size(1), weight.size(0), dropout,
              precision == Precision::tf32});
    });
    if (context.recording()) {
      context.save(context.needs_gradient(1) ? x : Tensor());
      context.save(context.needs_gradient(0) ? weight : Tensor());
      context.save(kernels::saved_by(activation) == ActivationSaves::output ? y : pre_activation);
    }
    return y;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    Gradients gradients(has_bias ? 3 : 2);
    const std::int64_t rows = dy.shape().rows(), out = dy.shape().width();
    const bool bias_gradient = has_bias && context.needs_gradient(2);
    const bool tf32 = precision == Precision::tf32;
    Tensor dz = dispatch_float(dy.dtype(), name, [&]<class T>() {
      return through_activation<T>(context.saved(2), dy, bias_gradient ? &gradients[2] : nullptr);
    });
    if (!context.needs_gradient(0) && !context.needs_gradient(1)) return gradients;
    dz = as_factor(name, dz, precision);
    dispatch_factor(dz.dtype(), name, [&]<class T>() {
      using Sum = SumOf<T>;
      if (context.needs_gradient(0)) {
        const Tensor& weight = context.saved(1);
        const std::int64_t in = weight.size(1);
        gradients[0] = Tensor::empty(dy.shape().with_width(in), dy.dtype(), dy.device());
        kernels::run(dy.device(), kernels::Gemm<T>{.m = rows,
                                                   .n = in,
                                                   .k = out,
                                                   .a = dz.data<T>(),
                                                   .lda = out,
                                                   .b = weight.data<T>(),
                                                   .ldb = in,
                                                   .c = gradients[0].mutable_data<Sum>(),
                                                   .ldc = in,
                                                   .tf32 = tf32});
      }
      if (context.needs_gradient(1)) {
        const Tensor& x = context.saved(0);
        const std::int64_t in = x.shape().width();
        gradients[1] = Tensor::empty({out, in}, dy.dtype(), dy.device());
        kernels::run(dy.device(), kernels::Gemm<T>{.transpose_a = true,
                                                   .m = out,
                                                   .n = in,
                                                   .k = rows,
                                                   .a = dz.data<T>(),
                                                   .lda = out,
                                                   .b = x.data<T>(),
                                                   .ldb = in,
                                                   .c = gradients[1].mutable_data<Sum>(),
                                                   .ldc = in,
                                                   .tf32 = tf32});
      }
    });
    return gradients;
  }

  /// dy times the derivative of activation and dropout, which is dy itself without either; and its
  /// column sums into *bias_gradient.
  template <class T>
  Tensor through_activation(const Tensor& saved, const Tensor& dy, Tensor* bias_gradient) const {
    using Kernel = kernels::ActivationBackward<T>;
    const std::int64_t rows = dy.shape().rows(), out = dy.shape().width();
    const bool unchanged = activation == Activation::none && dropout.p == 0;
    Tensor dz = unchanged ? Tensor() : Tensor::empty(dy.shape(), dy.dtype(), dy.device());
    Tensor workspace;
    if (bias_gradient != nullptr) {
      *bias_gradient = Tensor::empty({out}, dy.dtype(), dy.device());
      workspace = Tensor::empty({Kernel::workspace_size(rows, out)}, DType::f64, dy.device());
    }
    if (dz.defined() || bias_gradient != nullptr) {
      kernels::run(
          dy.device(),
          Kernel{activation, dy.data<T>(), saved.defined() ? saved.data<T>() : nullptr,
                 dz.defined() ? dz.mutable_data<T>() : nullptr, rows, out,
                 bias_gradient != nullptr ? bias_gradient->mutable_data<T>() : nullptr,
                 workspace.defined() ? workspace.mutable_data<double>() : nullptr, dropout});
    }
    return dz.defined() ? dz : dy;
  }

  void validate(std::span<const Tensor> inputs) const {
    const Tensor &x = inputs[0], &weight = inputs[1];
    require(x.rank() >= 1 && weight.rank() == 2 && x.shape().width() == weight.size(1) &&
                x.dtype() == weight.dtype(),
            name,
            "x {} and weight {} do not fit: x must be [..., in] and weight [out, in], of one dtype",
            x.describe(), weight.describe());
    require(dropout.p >= 0 && dropout.p < 1, name, "dropout must be in [0, 1), got {}", dropout.p);
    if (!has_bias) return;
    const Tensor& bias = inputs[2];
    require(bias.shape() == Shape{weight.size(0)} && bias.dtype() == x.dtype(), name,
            "bias {} does not fit weight {}: it must be [out], of the same dtype", bias.describe(),
            weight.describe());
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](Activation activation) {
      return [activation](std::span<const Variable> v) {
        return linear(v[0], v[1], v[2], activation);
      };
    };
    const auto inputs = [](Shape x, std::int64_t out) {
      const std::int64_t in = x.width();
      return std::vector<Tensor>{random_normal(x, 1), random_normal({out, in}, 2),
                                 random_normal({out}, 3)};
    };
    std::vector<GradientCase> cases = {
        {"one row", inputs({1, 3}, 2), with(Activation::none)},
        {"no rows", inputs({0, 3}, 2), with(Activation::gelu)},
        {"no input columns", inputs({3, 0}, 2), with(Activation::tanh)},
        {"rank 3, gelu", inputs({2, 3, 7}, 5), with(Activation::gelu)},
        {"more than a chunk of rows, sigmoid", inputs({67, 2}, 3), with(Activation::sigmoid)},
        {"vector width plus one, tanh", inputs({3, 9}, 9), with(Activation::tanh)},
        {"no bias",
         {random_normal({3, 5}, 1), random_normal({4, 5}, 2)},
         [](std::span<const Variable> v) { return linear(v[0], v[1], {}, Activation::sigmoid); }},
        {"x is the weight too",
         {random_normal({3, 3}, 1)},
         [](std::span<const Variable> v) { return linear(v[0], v[0], {}, Activation::exp); }},
        {"rank 1", inputs({4}, 3), with(Activation::gelu)},
    };
    // relu: weight and bias such that no pre-activation is near its kink
    cases.push_back(
        {"relu",
         {random_away_from_zero({5, 1}, 4, 0.2), Tensor::from<double>({1, -2, 3}, {3, 1}),
          Tensor::from<double>({0.03, -0.03, 0.02}, {3})},
         with(Activation::relu)});
    const auto dropped = [](Activation activation) {
      return [activation](std::span<const Variable> v) {
        return linear(v[0], v[1], v[2], activation, {.p = 0.4, .stream = {.seed = 5, .site = 2}});
      };
    };
    cases.push_back({"relu, dropout", cases.back().inputs, dropped(Activation::relu)});
    cases.push_back({"dropout", inputs({67, 2}, 3), dropped(Activation::none)});
    cases.push_back({"gelu, dropout", inputs({2, 3, 7}, 5), dropped(Activation::gelu)});
    cases.push_back({"tanh, dropout", inputs({3, 9}, 9), dropped(Activation::tanh)});
    cases.push_back({"no rows, dropout", inputs({0, 3}, 2), dropped(Activation::none)});
    cases.push_back({"no bias, dropout",
                     {random_normal({3, 5}, 1), random_normal({4, 5}, 2)},
                     [](std::span<const Variable> v) {
                       return linear(v[0], v[1], {}, Activation::sigmoid, {.p = 0.5});
                     }});
    return cases;
  }
};

}  // namespace

Variable linear(const Variable& x, const Variable& weight, const Variable& bias,
                Activation activation, const DropoutMask& dropout) {
  if (!bias.defined()) return apply_op(Linear{activation, false, dropout}, {x, weight});
  return apply_op(Linear{activation, true, dropout}, {x, weight, bias});
}

}  // namespace cmir::ops
