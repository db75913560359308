#include "losses/hsic.h"

#include <cmath>

#include "autograd/gradcheck.h"
#include "kernels/invariance/hsic.h"
#include "losses/environment_penalty.h"

namespace cmir::losses {
namespace {

struct Hsic {
  static constexpr std::string_view name = "hsic";
  HsicOptions options;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &x = inputs[0], &y = inputs[1];
    const std::int64_t least = options.unbiased ? 4 : 1;
    require(x.rank() == 2 && y.rank() == 2 && x.numel() > 0 && y.numel() > 0 &&
                x.size(0) == y.size(0) && x.dtype() == y.dtype() && x.size(0) >= least,
            name,
            "needs two [samples, features] of the same samples and dtype, at least {} samples; got "
            "{} and {}",
            least, x.describe(), y.describe());
    Tensor value = Tensor::empty({}, x.dtype(), x.device()), derivatives[2];
    for (std::size_t i = 0; i < 2; ++i) {
      if (!context.recording() || !context.needs_gradient(i)) continue;
      derivatives[i] = Tensor::empty(inputs[i].shape(), x.dtype(), x.device());
    }
    dispatch_float(x.dtype(), name, [&]<class T>() {
      using Kernel = kernels::Hsic<T>;
      const auto pointer = [&](int i) {
        return derivatives[i].defined() ? derivatives[i].mutable_data<T>() : nullptr;
      };
      Tensor scratch = Tensor::empty({Kernel::workspace(x.size(0))}, DType::f64, x.device());
      kernels::run(x.device(), Kernel{x.data<T>(), y.data<T>(), x.size(0), x.size(1), y.size(1),
                                      options.gamma_x, options.gamma_y, options.unbiased,
                                      scratch.mutable_data<double>(), value.mutable_data<T>(),
                                      pointer(0), pointer(1)});
    });
    for (const Tensor& tensor : derivatives) {
      if (context.recording()) context.save(tensor);
    }
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    Gradients gradients(2);
    for (std::size_t i = 0; i < 2; ++i) {
      if (context.needs_gradient(i)) gradients[i] = times_cotangent(context.saved(i), dy);
    }
    return gradients;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto make = [](std::string name_of_case, Shape x, Shape y, HsicOptions options) {
      return GradientCase{
          std::move(name_of_case),
          {random_normal(x, 1), random_normal(y, 2)},
          [options](std::span<const Variable> z) { return hsic(z[0], z[1], options); }};
    };
    std::vector<GradientCase> cases{
        make("one sample", {1, 3}, {1, 2}, {}), make("two samples", {2, 3}, {2, 1}, {}),
        make("more than one tile", {35, 2}, {35, 3}, {0.3, 0.1}),
        make("unbiased, four samples", {4, 2}, {4, 3}, {0.3, 0.2, true}),
        make("unbiased", {7, 5}, {7, 1}, {0.1, 0.5, true})};
    cases.push_back({"an input used twice", {random_normal({5, 3}, 1)}, [](auto z) {
                       return hsic(z[0], z[0], {0.2, 0.4});
                     }});
    return cases;
  }
};

}  // namespace

Variable hsic(const Variable& x, const Variable& y, const HsicOptions& options) {
  for (const double gamma : {options.gamma_x, options.gamma_y}) {
    require(gamma > 0 && std::isfinite(gamma), Hsic::name, "a gamma must be above 0, got {}",
            gamma);
  }
  return apply_op(Hsic{options}, {x, y});
}

}  // namespace cmir::losses
