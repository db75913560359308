#include "autograd/layer_norm.h"

#include "autograd/gradcheck.h"
#include "kernels/norm/layer_norm.h"

namespace cmir::ops {
namespace {

struct LayerNorm {
  static constexpr std::string_view name = "layer_norm";
  double epsilon;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &x = inputs[0], &gamma = inputs[1], &beta = inputs[2];
    require(x.rank() >= 1 && x.size(-1) >= 1, name, "needs at least one feature per row, got {}",
            x.describe());
    const std::int64_t width = x.size(-1), rows = x.shape().rows();
    for (const Tensor* parameter : {&gamma, &beta}) {
      require(parameter->defined() && parameter->shape() == Shape{width} &&
                  parameter->dtype() == x.dtype(),
              name, "x {} needs gamma and beta [{}] of its dtype, got {}", x.describe(), width,
              parameter->describe());
    }
    require(epsilon > 0, name, "epsilon must be positive (a constant row has no variance), got {}",
            epsilon);
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    Tensor mean = Tensor::empty({rows}, x.dtype(), x.device());
    Tensor rstd = Tensor::empty({rows}, x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(), kernels::LayerNormForward<T>{
                                   x.data<T>(), gamma.data<T>(), beta.data<T>(),
                                   static_cast<T>(epsilon), y.mutable_data<T>(),
                                   mean.mutable_data<T>(), rstd.mutable_data<T>(), rows, width});
    });
    if (context.recording()) {
      for (const Tensor& tensor : {x, gamma, mean, rstd}) context.save(tensor);
    }
    return y;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor &x = context.saved(0), &gamma = context.saved(1);
    const std::int64_t width = x.size(-1), rows = x.shape().rows();
    Tensor dx = Tensor::empty(x.shape(), x.dtype(), x.device());
    Tensor dgamma = Tensor::empty(gamma.shape(), x.dtype(), x.device());
    Tensor dbeta = Tensor::empty(gamma.shape(), x.dtype(), x.device());
    Tensor workspace =
        Tensor::empty({kernels::layer_norm_backward_workspace(rows, width)}, x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(), kernels::LayerNormBackward<T>{
                                   x.data<T>(), gamma.data<T>(), context.saved(2).data<T>(),
                                   context.saved(3).data<T>(), dy.data<T>(), dx.mutable_data<T>(),
                                   dgamma.mutable_data<T>(), dbeta.mutable_data<T>(), rows, width,
                                   workspace.mutable_data<T>()});
    });
    return {dx, dgamma, dbeta};  // one pass makes all three; the tape drops those that nobody needs
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto make = [](std::span<const Variable> v) {
      return layer_norm(v[0], v[1], v[2], 1e-3);
    };
    const auto inputs = [](const Shape& shape) {
      return std::vector<Tensor>{random_normal(shape, 1), random_normal({shape.width()}, 2),
                                 random_normal({shape.width()}, 3)};
    };
    const auto itself = [](std::span<const Variable> v) { return layer_norm(v[0], v[0], v[0]); };
    return {{"primes", inputs({3, 7}), make},
            {"one row", inputs({1, 5}), make},
            {"width 1", inputs({4, 1}), make},
            {"rank 3", inputs({2, 2, 9}), make},
            {"two chunks", inputs({33, 2}), make},
            {"no rows", inputs({0, 3}), make},
            {"one input thrice", {random_normal({5}, 4)}, itself}};
  }
};

}  // namespace

Variable layer_norm(const Variable& x, const Variable& gamma, const Variable& beta,
                    double epsilon) {
  return apply_op(LayerNorm{epsilon}, {x, gamma, beta});
}

}  // namespace cmir::ops
