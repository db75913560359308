#include "losses/mmd.h"

#include <algorithm>
#include <cmath>

#include "autograd/gradcheck.h"
#include "kernels/invariance/gaussian_mmd.h"
#include "losses/environment_penalty.h"

namespace cmir::losses {
namespace {

struct Mmd {
  static constexpr std::string_view name = "mmd";
  EnvironmentGroups groups;
  kernels::KernelBank bank;
  bool unbiased;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& z = inputs[0];
    require(z.rank() == 2 && z.numel() > 0, name, "needs [samples, features], not empty; got {}",
            z.describe());
    const EnvironmentsOnDevice environments(name, groups, z);
    Tensor value = Tensor::empty({}, z.dtype(), z.device()), derivatives;
    if (context.recording()) derivatives = Tensor::empty(z.shape(), z.dtype(), z.device());
    dispatch_float(z.dtype(), name, [&]<class T>() {
      using Kernel = kernels::GaussianMmd<T>;
      Tensor scratch = Tensor::empty({Kernel::workspace(z.size(0))}, DType::f64, z.device());
      kernels::run(z.device(),
                   Kernel{z.data<T>(), environments.rows, z.size(1), bank, unbiased,
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
                         MmdOptions options) {
      return GradientCase{std::move(name_of_case),
                          {random_normal(shape, 1)},
                          [=](std::span<const Variable> z) { return mmd(z[0], groups, options); }};
    };
    const auto labels =
        EnvironmentGroups::by_labels(Tensor::from<std::int32_t>({2, 0, 2, 0, 3, 2, 0}, {7}), 5);
    const MmdOptions smooth{{0.01, 0.1, 1}};
    return {make("one environment", {3, 2}, EnvironmentGroups::blocks(0, 3), smooth),
            make("one sample each", {2, 3}, EnvironmentGroups::blocks(1, 1), smooth),
            make("one feature", {6, 1}, EnvironmentGroups::blocks(1, 3), smooth),
            make("labels, two environments empty", {7, 3}, labels, {{0.5}}),
            make("unbiased, one sample each", {2, 3}, EnvironmentGroups::blocks(1, 1), {{1}, true}),
            make("unbiased, labels, an environment of one", {7, 3}, labels, {{0.5, 0.1}, true}),
            make("more than one tile", {35, 2}, EnvironmentGroups::blocks(4, 7), smooth)};
  }
};

}  // namespace

Variable mmd(const Variable& z, const EnvironmentGroups& environments, const MmdOptions& options) {
  kernels::KernelBank bank{.count = static_cast<int>(options.gammas.size())};
  require(bank.count >= 1 && bank.count <= kernels::KernelBank::kMost, Mmd::name,
          "needs 1 .. {} gammas, got {}", kernels::KernelBank::kMost, bank.count);
  for (const double gamma : options.gammas) {
    require(gamma > 0 && std::isfinite(gamma), Mmd::name, "a gamma must be above 0, got {}", gamma);
  }
  std::copy(options.gammas.begin(), options.gammas.end(), bank.gammas);
  return apply_op(Mmd{environments, bank, options.unbiased}, {z});
}

}  // namespace cmir::losses
