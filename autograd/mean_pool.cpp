#include "autograd/mean_pool.h"

#include "autograd/gradcheck.h"
#include "autograd/sequences.h"
#include "kernels/pool/mean_pool.h"

namespace cmir::ops {
namespace {

struct MeanPool {
  static constexpr std::string_view name = "mean_pool";
  Tensor offsets;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& x = inputs[0];
    require(x.rank() == 2, name, "needs x [rows, width], got {}", x.describe());
    const Sequences sequences = check_sequences(name, offsets, x);
    Tensor y = Tensor::empty({sequences.samples, x.size(1)}, x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(),
                   kernels::MeanPoolForward<T>{x.data<T>(), sequences.offsets, y.mutable_data<T>(),
                                               sequences.samples, x.size(1)},
                   x.size(0));
    });
    if (context.recording()) context.save(offsets);
    return y;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor &bounds = context.saved(0), on_device = bounds.on(dy.device());
    Tensor dx =
        Tensor::empty({bounds.span<std::int64_t>().back(), dy.size(1)}, dy.dtype(), dy.device());
    dispatch_float(dy.dtype(), name, [&]<class T>() {
      kernels::run(dy.device(),
                   kernels::MeanPoolBackward<T>{dy.data<T>(), on_device.data<std::int64_t>(),
                                                dx.mutable_data<T>(), dy.size(0), dy.size(1)},
                   dx.size(0));
    });
    return {dx};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](std::vector<std::int64_t> bounds) {
      return [offsets = Tensor::from(bounds, {static_cast<std::int64_t>(bounds.size())})](
                 std::span<const Variable> v) { return mean_pool(v[0], offsets); };
    };
    return {{"samples of 3, 0, 1, 2 rows", {random_normal({6, 5}, 1)}, with({0, 3, 3, 4, 6})},
            {"one row", {random_normal({1, 9}, 1)}, with({0, 1})},
            {"width 1", {random_normal({7, 1}, 1)}, with({0, 7})},
            {"only empty samples", {random_normal({0, 3}, 1)}, with({0, 0, 0})}};
  }
};

}  // namespace

Variable mean_pool(const Variable& x, const Tensor& offsets) {
  return apply_op(MeanPool{offsets}, {x});
}

}  // namespace cmir::ops
