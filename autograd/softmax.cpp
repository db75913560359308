#include "autograd/softmax.h"

#include "autograd/gradcheck.h"
#include "kernels/softmax/softmax.h"

namespace cmir::ops {
namespace {

struct Softmax {
  static constexpr std::string_view name = "softmax";
  Tensor lengths;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& x = inputs[0];
    const std::int64_t rows = x.shape().rows(), width = x.shape().width();
    if (lengths.defined()) {
      require(lengths.dtype() == DType::i64 && lengths.numel() == rows, name,
              "x {} needs i64 lengths [{}], got {}", x.describe(), rows, lengths.describe());
      for (const std::int64_t length : lengths.span<std::int64_t>()) {
        require(0 <= length && length <= width, name, "a length must be in 0 .. {}, got {}", width,
                length);
      }
    }
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      const Tensor on_device = lengths.on(x.device());
      kernels::run(x.device(), kernels::SoftmaxForward<T>{x.data<T>(), bounds(on_device),
                                                          y.mutable_data<T>(), rows, width});
    });
    if (context.recording()) {
      context.save(y);
      context.save(lengths);
    }
    return y;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor& y = context.saved(0);
    Tensor dx = Tensor::empty(y.shape(), y.dtype(), y.device());
    dispatch_float(y.dtype(), name, [&]<class T>() {
      const Tensor on_device = context.saved(1).on(y.device());
      kernels::run(y.device(), kernels::SoftmaxBackward<T>{y.data<T>(), bounds(on_device),
                                                           dy.data<T>(), dx.mutable_data<T>(),
                                                           y.shape().rows(), y.shape().width()});
    });
    return {dx};
  }

  static const std::int64_t* bounds(const Tensor& lengths) {
    return lengths.defined() ? lengths.data<std::int64_t>() : nullptr;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto plain = [](std::span<const Variable> v) { return softmax(v[0]); };
    const auto ragged = [](std::span<const Variable> v) {
      return softmax(v[0], Tensor::from<std::int64_t>({3, 0, 5, 1}, {4}));
    };
    return {{"one row", {random_normal({1, 7}, 1)}, plain},
            {"rank 3", {random_normal({2, 2, 3}, 1)}, plain},
            {"width 1", {random_normal({3, 1}, 1)}, plain},
            {"lengths 3, 0, 5, 1", {random_normal({4, 5}, 2)}, ragged},
            {"equal maxima", {Tensor::full({2, 8}, 1.0, DType::f64)}, plain},
            {"no rows", {random_normal({0, 5}, 2)}, plain}};
  }
};

}  // namespace

Variable softmax(const Variable& x, const Tensor& lengths) {
  return apply_op(Softmax{lengths}, {x});
}

}  // namespace cmir::ops
