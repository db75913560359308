#include "losses/reconstruction.h"

#include "autograd/arithmetic.h"
#include "autograd/gradcheck.h"
#include "kernels/loss/squared_distance.h"

namespace cmir::losses {
namespace {

struct Reconstruction {
  static constexpr std::string_view name = "reconstruction";
  bool mean_over_features;

  double scale(const Tensor& x) const {
    return 1.0 / static_cast<double>(mean_over_features ? x.numel() : x.size(0));
  }

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &x = inputs[0], &x_hat = inputs[1];
    require(
        x.shape() == x_hat.shape() && x.dtype() == x_hat.dtype() && x.rank() >= 1 && x.numel() > 0,
        name, "x {} and x_hat {} must have one shape, not empty, and one dtype", x.describe(),
        x_hat.describe());
    Tensor value = Tensor::empty({}, x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      using Forward = kernels::SquaredDistanceForward<T>;
      Tensor partial = Tensor::empty({Forward::workspace(x.numel())}, DType::f64, x.device());
      kernels::run(x.device(), Forward{x.data<T>(), x_hat.data<T>(), x.numel(), scale(x),
                                       partial.mutable_data<double>(), value.mutable_data<T>()});
    });
    if (context.recording()) {
      context.save(x);
      context.save(x_hat);
    }
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor &x = context.saved(0), &x_hat = context.saved(1);
    Gradients gradients(2);
    for (std::size_t i = 0; i < 2; ++i) {
      if (context.needs_gradient(i)) gradients[i] = Tensor::empty(x.shape(), x.dtype(), x.device());
    }
    dispatch_float(x.dtype(), name, [&]<class T>() {
      const auto pointer = [&](std::size_t i) {
        return gradients[i].defined() ? gradients[i].mutable_data<T>() : nullptr;
      };
      kernels::run(x.device(), kernels::SquaredDistanceBackward<T>{
                                   x.data<T>(), x_hat.data<T>(), dy.data<T>(), x.numel(), scale(x),
                                   pointer(0), pointer(1)});
    });
    return gradients;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](ReconstructionOptions options) {
      return [options](std::span<const Variable> x) { return reconstruction(x[0], x[1], options); };
    };
    return {{"one row, mean", {random_normal({1, 5}, 1), random_normal({1, 5}, 2)}, with({})},
            {"sum over features",
             {random_normal({3, 7}, 1), random_normal({3, 7}, 2)},
             with({.mean_over_features = false})},
            {"x used twice", {random_normal({2, 3}, 1)}, [](auto x) {
               return reconstruction(x[0], ops::scale(x[0], 0.5));
             }}};
  }
};

}  // namespace

Variable reconstruction(const Variable& x, const Variable& x_hat,
                        const ReconstructionOptions& options) {
  return apply_op(Reconstruction{options.mean_over_features},
                  {options.stop_gradient ? x.detach() : x, x_hat});
}

}  // namespace cmir::losses
