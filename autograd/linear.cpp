#include "autograd/linear.h"

#include "autograd/gradcheck.h"
#include "autograd/precision.h"
#include "kernels/matrix/gemm.h"
#include "kernels/matrix/linear.h"
#include "kernels/matrix/linear_backward.h"

namespace cmir::ops {
namespace {

using kernels::ActivationSaves;

/// Linear layers with relu between them. Inputs: x, then each layer's weight and, where there is
/// one, bias.
struct Linear {
  static constexpr std::string_view name = "linear";
  Activation activation;  // of the last layer, as dropout is
  bool has_bias;
  DropoutMask dropout;
  std::size_t layers = 1;
  Precision precision = current_precision();

  std::size_t weight_of(std::size_t layer) const { return 1 + layer * (has_bias ? 2 : 1); }
  bool is_last(std::size_t layer) const { return layer + 1 == layers; }

  /// What forward saves of each layer.
  enum Saved : std::size_t { kInput, kWeight, kBias, kActivation, kMask, kSaved };
  static const Tensor& saved(const OpContext& context, std::size_t layer, Saved which) {
    return context.saved(layer * kSaved + which);
  }

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    Tensor x = inputs[0];
    for (std::size_t layer = 0; layer < layers; ++layer) {
      const Tensor& weight = inputs[weight_of(layer)];
      x = layer_forward(context, layer, x, weight,
                        has_bias ? inputs[weight_of(layer) + 1] : Tensor());
    }
    return x;
  }

  Tensor layer_forward(OpContext& context, std::size_t layer, const Tensor& input,
                       const Tensor& full_weight, const Tensor& bias) const {
    validate(input, full_weight, bias);
    const Tensor x = as_factor(name, input, precision),
                 weight = as_factor(name, full_weight, precision);
    const bool last = is_last(layer), recording = context.recording();
    Tensor y = Tensor::empty(x.shape().with_width(weight.size(0)), input.dtype(), x.device());
    Tensor pre_activation, mask;
    if (recording && last && kernels::saved_by(activation) == ActivationSaves::input) {
      pre_activation = Tensor::empty(y.shape(), y.dtype(), y.device());
    }
    if (recording && !last && !x.device().is_cpu()) {
      mask = Tensor::empty({kernels::relu_mask_bytes(x.shape().rows(), weight.size(0))}, DType::u8,
                           x.device());
    }
    dispatch_factor(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(), call<T>(layer, x, weight, bias, pre_activation, y, mask));
    });
    if (!recording) return y;
    const bool all = layers > 1;
    context.save(all || context.needs_gradient(1) ? x : Tensor());
    context.save(all || context.needs_gradient(0) ? weight : Tensor());
    context.save(all ? bias : Tensor());
    const bool output = !last || kernels::saved_by(activation) == ActivationSaves::output;
    context.save(output ? y : pre_activation);
    context.save(mask);
    return y;
  }

  /// The kernel's arguments.
  template <class T>
  kernels::LinearForward<T> call(std::size_t layer, const Tensor& x, const Tensor& weight,
                                 const Tensor& bias, const Tensor& pre_activation, const Tensor& y,
                                 const Tensor& mask) const {
    using Sum = SumOf<T>;
    const bool last = is_last(layer);
    const auto written = [](const Tensor& t) {
      return t.defined() ? const_cast<Sum*>(t.data<Sum>()) : nullptr;
    };
    return {.x = x.data<T>(),
            .weight = weight.data<T>(),
            .bias = bias.defined() ? bias.data<Sum>() : nullptr,
            .activation = last ? activation : Activation::relu,
            .pre_activation = written(pre_activation),
            .y = written(y),
            .rows = x.shape().rows(),
            .in = weight.size(1),
            .out = weight.size(0),
            .dropout = last ? dropout : DropoutMask{},
            .tf32 = precision == Precision::tf32,
            .relu_mask =
                mask.defined() ? const_cast<std::uint8_t*>(mask.data<std::uint8_t>()) : nullptr};
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    Gradients gradients(weight_of(layers));
    std::size_t first = 0;  // layer whose parameters, or the input, need a gradient
    while (!context.needs_gradient(0) && !needs_parameters(context, first)) ++first;
    // Without an activation the bias gradient comes with the weight's.
    const bool with_weight = activation == Activation::none && dropout.p == 0 &&
                             precision != Precision::bf16 &&
                             context.needs_gradient(weight_of(layers - 1));
    Tensor* bias = bias_gradient(context, layers - 1, gradients);
    Tensor dz = dispatch_float(dy.dtype(), name, [&]<class T>() {
      return through_activation<T>(saved(context, layers - 1, kActivation), dy,
                                   with_weight ? nullptr : bias);
    });
    for (std::size_t layer = layers; layer-- > first;) {
      if (!context.needs_gradient(weight_of(layer)) && layer == first &&
          !(layer == 0 && context.needs_gradient(0))) {
        break;
      }
      const Tensor factor = as_factor(name, dz, precision);
      dispatch_factor(factor.dtype(), name, [&]<class T>() {
        if (context.needs_gradient(weight_of(layer))) {
          gradients[weight_of(layer)] =
              weight_gradient<T>(factor, saved(context, layer, kInput),
                                 is_last(layer) && with_weight ? bias : nullptr);
        }
        if (layer > first) {
          dz =
              through_relu<T>(context, layer, factor, bias_gradient(context, layer - 1, gradients));
        } else if (layer == 0 && context.needs_gradient(0)) {
          gradients[0] = input_gradient<T>(factor, saved(context, 0, kWeight));
        }
      });
    }
    return gradients;
  }

  bool needs_parameters(const OpContext& context, std::size_t layer) const {
    return context.needs_gradient(weight_of(layer)) ||
           (has_bias && context.needs_gradient(weight_of(layer) + 1));
  }
  /// Where the gradient of a layer's bias goes; null where none is wanted.
  Tensor* bias_gradient(const OpContext& context, std::size_t layer, Gradients& gradients) const {
    const std::size_t input = weight_of(layer) + 1;
    return has_bias && context.needs_gradient(input) ? &gradients[input] : nullptr;
  }

  template <class T>
  Tensor input_gradient(const Tensor& dz, const Tensor& weight) const {
    const std::int64_t out = weight.size(0), in = weight.size(1);
    Tensor dx = Tensor::empty(dz.shape().with_width(in), dtype_of<SumOf<T>>, dz.device());
    kernels::run(dz.device(), kernels::Gemm<T>{.m = dz.shape().rows(),
                                               .n = in,
                                               .k = out,
                                               .a = dz.data<T>(),
                                               .lda = out,
                                               .b = weight.data<T>(),
                                               .ldb = in,
                                               .c = dx.mutable_data<SumOf<T>>(),
                                               .ldc = in,
                                               .tf32 = precision == Precision::tf32});
    return dx;
  }

  /// And, unless null, that of the bias, which is not asked for in bf16.
  template <class T>
  Tensor weight_gradient(const Tensor& dz, const Tensor& x, Tensor* bias_gradient) const {
    const std::int64_t rows = dz.shape().rows(), out = dz.shape().width(), in = x.shape().width();
    const bool tf32 = precision == Precision::tf32;
    Tensor dweight = Tensor::empty({out, in}, dtype_of<SumOf<T>>, dz.device());
    if constexpr (!std::is_same_v<T, BFloat16>) {
      if (bias_gradient != nullptr) {
        *bias_gradient = Tensor::empty({out}, dz.dtype(), dz.device());
        Tensor workspace = sums_workspace<T>(dz);
        kernels::run(dz.device(), kernels::LinearWeightGradient<T>{
                                      dz.data<T>(), x.data<T>(), dweight.mutable_data<T>(),
                                      bias_gradient->mutable_data<T>(),
                                      workspace.mutable_data<double>(), rows, in, out, tf32});
        return dweight;
      }
    }
    kernels::run(dz.device(), kernels::Gemm<T>{.transpose_a = true,
                                               .m = out,
                                               .n = in,
                                               .k = rows,
                                               .a = dz.data<T>(),
                                               .lda = out,
                                               .b = x.data<T>(),
                                               .ldb = in,
                                               .c = dweight.mutable_data<SumOf<T>>(),
                                               .ldc = in,
                                               .tf32 = tf32});
    return dweight;
  }

  /// From the gradient of a layer's product to that of the product of the one before it.
  template <class T>
  Tensor through_relu(const OpContext& context, std::size_t layer, const Tensor& dz,
                      Tensor* bias_gradient) const {
    using Sum = SumOf<T>;
    const std::size_t before = layer - 1;
    const auto of = [&](Saved which) { return saved(context, before, which); };
    const Tensor y = of(kActivation), weight = saved(context, layer, kWeight);
    Tensor result = Tensor::empty(y.shape(), y.dtype(), y.device());
    Tensor workspace;
    if (bias_gradient != nullptr) {
      *bias_gradient = Tensor::empty({y.shape().width()}, y.dtype(), y.device());
      workspace = sums_workspace<Sum>(y);
    }
    kernels::run(
        y.device(),
        kernels::LinearReluGradient<T>{
            call<T>(before, of(kInput), of(kWeight), of(kBias), Tensor(), y, of(kMask)),
            dz.data<T>(), weight.data<T>(), result.mutable_data<Sum>(),
            bias_gradient != nullptr ? bias_gradient->mutable_data<Sum>() : nullptr,
            workspace.defined() ? workspace.mutable_data<double>() : nullptr, weight.size(0)});
    return result;
  }

  template <class T>
  static Tensor sums_workspace(const Tensor& dz) {
    return Tensor::empty(
        {kernels::ActivationBackward<T>::workspace_size(dz.shape().rows(), dz.shape().width())},
        DType::f64, dz.device());
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
      workspace = sums_workspace<T>(dy);
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

  void validate(const Tensor& x, const Tensor& weight, const Tensor& bias) const {
    require(x.rank() >= 1 && weight.rank() == 2 && x.shape().width() == weight.size(1) &&
                x.dtype() == weight.dtype(),
            name,
            "x {} and weight {} do not fit: x must be [..., in] and weight [out, in], of one dtype",
            x.describe(), weight.describe());
    require(dropout.p >= 0 && dropout.p < 1, name, "dropout must be in [0, 1), got {}", dropout.p);
    if (!has_bias) return;
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
    const std::vector<Tensor> two = {random_away_from_zero({5, 1}, 4, 0.2),
                                     Tensor::from<double>({1, -2, 3}, {3, 1}),
                                     Tensor::from<double>({0.03, -0.03, 0.02}, {3}),
                                     random_normal({4, 3}, 5), random_normal({4}, 6)};
    const auto mlp_with = [](Activation activation, double p) {
      return [activation, p](std::span<const Variable> v) {
        return mlp(v[0], {{v[1], v[2]}, {v[3], v[4]}}, activation, {p, {.seed = 5}});
      };
    };
    cases.push_back({"two layers", two, mlp_with(Activation::none, 0)});
    cases.push_back({"two layers, tanh, dropout", two, mlp_with(Activation::tanh, 0.3)});
    cases.push_back(
        {"two layers, no bias", {two[0], two[1], two[3]}, [](std::span<const Variable> v) {
           return mlp(v[0], {{v[1], {}}, {v[2], {}}}, Activation::sigmoid);
         }});
    cases.push_back(
        {"three layers of one weight",
         {random_away_from_zero({3, 2}, 7, 0.2), Tensor::from<double>({1, 0.5, -0.5, 1}, {2, 2}),
          Tensor::from<double>({3, 4}, {2})},
         [](std::span<const Variable> v) {
           return mlp(v[0], {{v[1], v[2]}, {v[1], v[2]}, {v[1], v[2]}});
         }});
    cases.push_back({"two layers of no rows",
                     {random_normal({0, 1}, 1), two[1], two[2], two[3], two[4]},
                     mlp_with(Activation::none, 0)});
    return cases;
  }
};

}  // namespace

Variable linear(const Variable& x, const Variable& weight, const Variable& bias,
                Activation activation, const DropoutMask& dropout) {
  if (!bias.defined()) return apply_op(Linear{activation, false, dropout}, {x, weight});
  return apply_op(Linear{activation, true, dropout}, {x, weight, bias});
}

Variable mlp(const Variable& x, const std::vector<LinearLayer>& layers, Activation activation,
             const DropoutMask& dropout) {
  require(!layers.empty(), Linear::name, "an mlp has at least one layer");
  const bool has_bias = layers[0].bias.defined();
  std::vector<Variable> inputs = {x};
  for (const LinearLayer& layer : layers) {
    require(layer.bias.defined() == has_bias, Linear::name,
            "either all layers of an mlp have a bias or none has");
    inputs.push_back(layer.weight);
    if (has_bias) inputs.push_back(layer.bias);
  }
  return apply_op(Linear{activation, has_bias, dropout, layers.size()}, inputs);
}

}  // namespace cmir::ops
