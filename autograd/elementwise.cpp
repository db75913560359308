#include "autograd/elementwise.h"

#include <algorithm>

#include "autograd/gradcheck.h"
#include "kernels/elementwise/activation.h"
#include "kernels/elementwise/binary.h"
#include "kernels/reduce/sum.h"

namespace cmir::ops {
namespace {

using kernels::Activation;
using kernels::ActivationSaves;
using kernels::BinaryOperation;

bool is_suffix(const Shape& suffix, const Shape& shape) {
  const auto s = suffix.sizes(), whole = shape.sizes();
  return s.size() <= whole.size() &&
         std::equal(s.begin(), s.end(), whole.end() - static_cast<std::ptrdiff_t>(s.size()));
}

/// How many times a shape holds its suffix.
std::int64_t repetitions(const Shape& shape, const Shape& suffix) {
  std::int64_t product = 1;
  for (int i = 0; i < shape.rank() - suffix.rank(); ++i) product *= shape[i];
  return product;
}

template <class T>
Tensor combine(BinaryOperation operation, const Tensor& a, const Tensor& b) {
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
  kernels::run(a.device(),
               kernels::Binary<T>{operation, a.data<T>(), b.data<T>(), y.mutable_data<T>(),
                                  repetitions(a.shape(), b.shape()), b.numel()});
  return y;
}

/// scale * dy, or scale * dy * factor, summed over the leading dimensions that `shape` lacks.
template <class T>
Tensor sum_to(const Shape& shape, double scale, const Tensor& dy, const Tensor& factor) {
  using Kernel = kernels::SumOverRows<T>;
  const std::int64_t rows = repetitions(dy.shape(), shape), width = shape.numel();
  Tensor sum = Tensor::empty(shape, dy.dtype(), dy.device());
  Tensor workspace = Tensor::empty({Kernel::workspace_size(rows, width)}, DType::f64, dy.device());
  kernels::run(dy.device(),
               Kernel{scale, dy.data<T>(), factor.defined() ? factor.data<T>() : nullptr,
                      sum.mutable_data<T>(), workspace.mutable_data<double>(), rows, width});
  return sum;
}

template <BinaryOperation operation>
struct BinaryOp {
  static constexpr std::string_view name = operation == BinaryOperation::add        ? "add"
                                           : operation == BinaryOperation::subtract ? "subtract"
                                                                                    : "multiply";
  Shape b_shape;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &a = inputs[0], &b = inputs[1];
    require(
        is_suffix(b.shape(), a.shape()) && a.dtype() == b.dtype(), name,
        "{} and {} do not fit: the second's shape must be a suffix of the first's, of one dtype",
        a.describe(), b.describe());
    if (operation == BinaryOperation::multiply && context.recording()) {
      context.save(context.needs_gradient(1) ? a : Tensor());
      context.save(context.needs_gradient(0) ? b : Tensor());
    }
    Tensor y;
    dispatch_float(a.dtype(), name, [&]<class T>() { y = combine<T>(operation, a, b); });
    return y;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    Gradients gradients(2);
    dispatch_float(dy.dtype(), name, [&]<class T>() {
      if (context.needs_gradient(0)) {
        gradients[0] = operation == BinaryOperation::multiply
                           ? combine<T>(operation, dy, context.saved(1))
                           : dy;
      }
      if (context.needs_gradient(1)) gradients[1] = gradient_of_b<T>(context, dy);
    });
    return gradients;
  }

  template <class T>
  Tensor gradient_of_b(const OpContext& context, const Tensor& dy) const {
    const bool same_shape = dy.shape() == b_shape;
    if constexpr (operation == BinaryOperation::multiply) {
      return same_shape ? combine<T>(operation, dy, context.saved(0))
                        : sum_to<T>(b_shape, 1.0, dy, context.saved(0));
    }
    if (operation == BinaryOperation::add && same_shape) return dy;
    return sum_to<T>(b_shape, operation == BinaryOperation::add ? 1.0 : -1.0, dy, Tensor());
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto call = [](std::span<const Variable> v) {
      return apply_op(BinaryOp{v[1].shape()}, {v[0], v[1]});
    };
    const auto twice = [](std::span<const Variable> v) {
      return apply_op(BinaryOp{v[0].shape()}, {v[0], v[0]});
    };
    const auto normal = random_normal;
    return {{"equal shapes", {normal({3, 5}, 1), normal({3, 5}, 2)}, call},
            {"a row", {normal({3, 9}, 1), normal({9}, 2)}, call},
            {"a scalar", {normal({2, 3}, 1), normal({}, 2)}, call},
            {"a matrix over two leading dimensions",
             {normal({2, 1, 3, 5}, 1), normal({3, 5}, 2)},
             call},
            {"more than a chunk of rows", {normal({67, 2}, 1), normal({2}, 2)}, call},
            {"no rows", {normal({0, 5}, 1), normal({5}, 2)}, call},
            {"no columns", {normal({3, 0}, 1), normal({0}, 2)}, call},
            {"an input used twice", {normal({7}, 1)}, twice}};
  }
};

template <Activation activation>
constexpr std::string_view name_of_activation() {
  switch (activation) {
    case Activation::relu:
      return "relu";
    case Activation::gelu:
      return "gelu";
    case Activation::tanh:
      return "tanh";
    case Activation::sigmoid:
      return "sigmoid";
    default:
      return "exp";
  }
}

template <Activation activation>
struct UnaryOp {
  static constexpr std::string_view name = name_of_activation<activation>();

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& x = inputs[0];
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(), kernels::ActivationForward<T>{activation, x.data<T>(),
                                                             y.mutable_data<T>(), x.numel()});
    });
    if (context.recording())
      context.save(kernels::saved_by(activation) == ActivationSaves::input ? x : y);
    return y;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    Tensor dx = Tensor::empty(dy.shape(), dy.dtype(), dy.device());
    dispatch_float(dy.dtype(), name, [&]<class T>() {
      kernels::run(dy.device(), kernels::ActivationBackward<T>{
                                    activation, dy.data<T>(), context.saved(0).data<T>(),
                                    dx.mutable_data<T>(), dy.shape().rows(), dy.shape().width()});
    });
    return {dx};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto call = [](std::span<const Variable> v) { return apply_op(UnaryOp{}, {v[0]}); };
    return {{"a matrix", {random_away_from_zero({3, 5}, 1)}, call},
            {"a scalar", {random_away_from_zero({}, 2)}, call},
            {"more than a chunk", {random_away_from_zero({130, 1}, 3)}, call},
            {"empty", {random_normal({0, 3}, 1)}, call},
            {"far from zero", {Tensor::from<double>({-30, -5, -2, 2, 5}, {5})}, call}};
  }
};

template <BinaryOperation operation>
Variable binary(const Variable& a, const Variable& b) {
  return apply_op(BinaryOp<operation>{b.shape()}, {a, b});
}

}  // namespace

Variable add(const Variable& a, const Variable& b) { return binary<BinaryOperation::add>(a, b); }
Variable subtract(const Variable& a, const Variable& b) {
  return binary<BinaryOperation::subtract>(a, b);
}
Variable multiply(const Variable& a, const Variable& b) {
  return binary<BinaryOperation::multiply>(a, b);
}

Variable relu(const Variable& x) { return apply_op(UnaryOp<Activation::relu>{}, {x}); }
Variable gelu(const Variable& x) { return apply_op(UnaryOp<Activation::gelu>{}, {x}); }
Variable tanh(const Variable& x) { return apply_op(UnaryOp<Activation::tanh>{}, {x}); }
Variable sigmoid(const Variable& x) { return apply_op(UnaryOp<Activation::sigmoid>{}, {x}); }
Variable exp(const Variable& x) { return apply_op(UnaryOp<Activation::exp>{}, {x}); }

}  // namespace cmir::ops
