#include "losses/coral.h"

#include <cmath>

#include "autograd/gradcheck.h"
#include "kernels/invariance/coral.h"
#include "losses/environment_penalty.h"

namespace cmir::losses {
namespace {

struct Coral {
  static constexpr std::string_view name = "coral";
  EnvironmentGroups groups;
  CoralOptions options;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& z = inputs[0];
    require(z.rank() == 2 && z.numel() > 0, name, "needs [samples, features], not empty; got {}",
            z.describe());
    const EnvironmentsOnDevice environments(name, groups, z);
    Tensor value = Tensor::empty({}, z.dtype(), z.device()), derivatives;
    if (context.recording()) derivatives = Tensor::empty(z.shape(), z.dtype(), z.device());
    dispatch_float(z.dtype(), name, [&]<class T>() {
      using Kernel = kernels::Coral<T>;
      const std::int64_t count = groups.count(), d = z.size(1);
      const auto features = static_cast<double>(d);
      Tensor products = Tensor::empty({Kernel::products_size(z.device(), z.size(0), count, d)},
                                      z.dtype(), z.device());
      Tensor scratch = Tensor::empty({Kernel::workspace(count, d)}, DType::f64, z.device());
      kernels::run(
          z.device(),
          Kernel{z.data<T>(), environments.rows, d, options.mean_weight / features,
                 options.covariance_weight / (features * features), products.mutable_data<T>(),
                 scratch.mutable_data<double>(), value.mutable_data<T>(),
                 derivatives.defined() ? derivatives.mutable_data<T>() : nullptr});
    });
    if (context.recording()) context.save(derivatives);
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return {times_cotangent(context.saved(0), dy)};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto make = [](std::string name_of_case, Shape shape, EnvironmentGroups groups,
                         CoralOptions options) {
      return GradientCase{
          std::move(name_of_case), {random_normal(shape, 1)}, [=](std::span<const Variable> z) {
            return coral(z[0], groups, options);
          }};
    };
    const auto labels =
        EnvironmentGroups::by_labels(Tensor::from<std::int32_t>({2, 0, 2, 0, 3, 2, 0}, {7}), 5);
    return {make("one environment", {3, 2}, EnvironmentGroups::blocks(0, 3), {}),
            make("one sample each", {2, 3}, EnvironmentGroups::blocks(1, 1), {}),
            make("one feature", {6, 1}, EnvironmentGroups::blocks(1, 3), {}),
            make("blocks", {9, 4}, EnvironmentGroups::blocks(2, 3), {}),
            make("labels, two environments empty", {7, 3}, labels, {}),
            make("covariances only", {7, 3}, labels, {.mean_weight = 0, .covariance_weight = 0.25}),
            make("means only", {7, 3}, labels, {.mean_weight = 2, .covariance_weight = 0})};
  }
};

}  // namespace

Variable coral(const Variable& z, const EnvironmentGroups& environments,
               const CoralOptions& options) {
  for (const double weight : {options.mean_weight, options.covariance_weight}) {
    require(weight >= 0 && std::isfinite(weight), Coral::name,
            "a weight must not be negative, got {}", weight);
  }
  return apply_op(Coral{environments, options}, {z});
}

}  // namespace cmir::losses
