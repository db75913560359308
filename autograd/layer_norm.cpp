#include "autograd/layer_norm.h"

#include <array>

#include "autograd/gradcheck.h"
#include "autograd/rows.h"
#include "kernels/norm/layer_norm.h"

namespace cmir::ops {
namespace {

/// What one kernel makes of x, or of x + residual.
struct Normalised {
  Tensor y, mean, rstd;
  Tensor sum;  // where asked for
};

Normalised normalise(std::string_view op, const Tensor& x, const Tensor& residual,
                     const Tensor& gamma, const Tensor& beta, double epsilon, bool keep_sum) {
  require(x.rank() >= 1 && x.size(-1) >= 1, op, "needs at least one feature per row, got {}",
          x.describe());
  const std::int64_t width = x.size(-1), rows = x.shape().rows();
  for (const Tensor* parameter : {&gamma, &beta}) {
    require(parameter->defined() && parameter->shape() == Shape{width} &&
                parameter->dtype() == x.dtype(),
            op, "x {} needs gamma and beta [{}] of its dtype, got {}", x.describe(), width,
            parameter->describe());
  }
  require(epsilon > 0, op, "epsilon must be positive (a constant row has no variance), got {}",
          epsilon);
  const auto like_x = [&](const Shape& shape) {
    return Tensor::empty(shape, x.dtype(), x.device());
  };
  Normalised n{like_x(x.shape()), like_x({rows}), like_x({rows}), {}};
  if (keep_sum) n.sum = like_x(x.shape());
  dispatch_float(x.dtype(), op, [&]<class T>() {
    kernels::run(x.device(),
                 kernels::LayerNormForward<T>{
                     x.data<T>(), gamma.data<T>(), beta.data<T>(), static_cast<T>(epsilon),
                     n.y.mutable_data<T>(), n.mean.mutable_data<T>(), n.rstd.mutable_data<T>(),
                     rows, width, residual.defined() ? residual.data<T>() : nullptr,
                     keep_sum ? n.sum.mutable_data<T>() : nullptr});
  });
  return n;
}

/// gamma [width] and beta [width] for x, reproducible.
std::vector<Tensor> with_parameters(std::vector<Tensor> inputs) {
  const std::int64_t width = inputs[0].size(-1);
  inputs.push_back(random_normal({width}, 2));
  inputs.push_back(random_normal({width}, 3));
  return inputs;
}

struct LayerNorm {
  static constexpr std::string_view name = "layer_norm";
  double epsilon;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &x = inputs[0], &gamma = inputs[1], &beta = inputs[2];
    const Normalised n = normalise(name, x, {}, gamma, beta, epsilon, false);
    save(context, x, gamma, n);
    return n.y;
  }

  static void save(OpContext& context, const Tensor& x, const Tensor& gamma, const Normalised& n) {
    if (!context.recording()) return;
    for (const Tensor& tensor : {x, gamma, n.mean, n.rstd}) context.save(tensor);
  }

  Gradients backward(const OpContext& context, const Tensor& dy, Tensor arrived) const {
    const Tensor &x = context.saved(0), &gamma = context.saved(1);
    const std::int64_t width = x.size(-1), rows = x.shape().rows();
    const bool in_place = arrived.defined() && arrived.unique();
    Tensor dx = in_place ? arrived : Tensor::empty(x.shape(), x.dtype(), x.device());
    Tensor dgamma = Tensor::empty(gamma.shape(), x.dtype(), x.device());
    Tensor dbeta = Tensor::empty(gamma.shape(), x.dtype(), x.device());
    Tensor workspace =
        Tensor::empty({kernels::layer_norm_backward_workspace(rows, width)}, x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(), kernels::LayerNormBackward<T>{
                                   x.data<T>(), gamma.data<T>(), context.saved(2).data<T>(),
                                   context.saved(3).data<T>(), dy.data<T>(), dx.mutable_data<T>(),
                                   dgamma.mutable_data<T>(), dbeta.mutable_data<T>(), rows, width,
                                   workspace.mutable_data<T>(),
                                   arrived.defined() ? arrived.data<T>() : nullptr});
    });
    return {dx, dgamma, dbeta};  // one pass makes all three; the tape drops those that nobody needs
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto make = [](std::span<const Variable> v) {
      return layer_norm(v[0], v[1], v[2], 1e-3);
    };
    const auto inputs = [](const Shape& shape) {
      return with_parameters({random_normal(shape, 1)});
    };
    const auto itself = [](std::span<const Variable> v) { return layer_norm(v[0], v[0], v[0]); };
    // x's gradient has already arrived from behind the norm, or has not.
    const auto passed_on = [](std::span<const Variable> v) {
      return concat({layer_norm(v[0], v[1], v[2]), slice_rows(v[0], 0, v[0].shape()[0])});
    };
    const auto passed_on_before = [](std::span<const Variable> v) {
      const Variable before = slice_rows(v[0], 0, v[0].shape()[0]);
      return concat({layer_norm(v[0], v[1], v[2]), before});
    };
    return {{"primes", inputs({3, 7}), make},
            {"one row", inputs({1, 5}), make},
            {"width 1", inputs({4, 1}), make},
            {"rank 3", inputs({2, 2, 9}), make},
            {"two chunks", inputs({33, 2}), make},
            {"no rows", inputs({0, 3}), make},
            {"one input thrice", {random_normal({5}, 4)}, itself},
            {"x is passed on too", inputs({3, 5}), passed_on},
            {"x was passed on before", inputs({3, 5}), passed_on_before}};
  }
};

/// x + residual, whose value the layer norm's kernel has made.
struct ResidualSum {
  static constexpr std::string_view name = "residual_sum";

  Gradients backward(const OpContext&, const Tensor& dy) const { return {dy, dy}; }

  static std::vector<GradientCase> gradient_cases() {
    const auto both = [](std::span<const Variable> v) {
      const SumAndNorm result = sum_and_layer_norm(v[0], v[1], v[2], v[3], 1e-3);
      return concat({result.sum, result.norm});
    };
    const auto norm = [](std::span<const Variable> v) {
      return layer_norm_of_sum(v[0], v[1], v[2], v[3], 1e-3);
    };
    const auto sum = [](std::span<const Variable> v) {
      return sum_and_layer_norm(v[0], v[1], v[2], v[3], 1e-3).sum;
    };
    const auto doubled = [](std::span<const Variable> v) {
      return layer_norm_of_sum(v[0], v[0], v[1], v[2], 1e-3);
    };
    const auto inputs = [](const Shape& shape) {
      return with_parameters({random_normal(shape, 1), random_normal(shape, 4)});
    };
    return {{"both results", inputs({3, 7}), both},
            {"both results, two chunks of rows", inputs({33, 2}), both},
            {"both results, rank 3", inputs({2, 2, 9}), both},
            {"both results, no rows", inputs({0, 3}), both},
            {"the norm alone", inputs({4, 5}), norm},
            {"the sum alone", inputs({1, 5}), sum},
            {"x is the residual too", with_parameters({random_normal({3, 5}, 1)}), doubled}};
  }
};

SumAndNorm of_sum(const Variable& x, const Variable& residual, const Variable& gamma,
                  const Variable& beta, double epsilon, bool sum_wanted) {
  constexpr std::string_view op = "layer_norm_of_sum";
  const Tensor values[] = {x.value(), residual.value(), gamma.value(), beta.value()};
  require(values[0].shape() == values[1].shape() && values[0].dtype() == values[1].dtype(), op,
          "x {} and residual {} must have one shape and dtype", values[0].describe(),
          values[1].describe());
  check_one_device(op, values);
  const Variable terms[] = {x, residual};
  const bool recording =
      context_of(std::array{x, residual, gamma, beta}).recording();  // then backward needs the sum
  const Normalised n =
      normalise(op, values[0], values[1], values[2], values[3], epsilon, sum_wanted || recording);
  const Variable sum = record_op(ResidualSum{}, context_of(terms), n.sum, terms);
  const Variable inputs[] = {sum, gamma, beta};
  OpContext context = context_of(inputs);
  LayerNorm::save(context, n.sum, values[2], n);
  return {sum, record_op(LayerNorm{epsilon}, std::move(context), n.y, inputs)};
}

}  // namespace

Variable layer_norm(const Variable& x, const Variable& gamma, const Variable& beta,
                    double epsilon) {
  return apply_op(LayerNorm{epsilon}, {x, gamma, beta});
}

Variable layer_norm_of_sum(const Variable& x, const Variable& residual, const Variable& gamma,
                           const Variable& beta, double epsilon) {
  return of_sum(x, residual, gamma, beta, epsilon, false).norm;
}

SumAndNorm sum_and_layer_norm(const Variable& x, const Variable& residual, const Variable& gamma,
                              const Variable& beta, double epsilon) {
  return of_sum(x, residual, gamma, beta, epsilon, true);
}

}  // namespace cmir::ops
