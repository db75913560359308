#include "losses/environments.h"

#include <cmath>

#include "autograd/gradcheck.h"
#include "kernels/loss/noise_variants.h"

namespace cmir::losses {
namespace {

struct NoiseVariants {
  static constexpr std::string_view name = "noise_variants";
  std::int64_t environments;
  double alpha;
  RandomStream stream;

  Tensor forward(OpContext&, std::span<const Tensor> inputs) const {
    const Tensor& x = inputs[0];
    require(x.rank() >= 1, name, "needs [samples, ...], got {}", x.describe());
    Tensor y = Tensor::empty(x.shape().with_leading((environments + 1) * x.size(0)), x.dtype(),
                             x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(),
                   kernels::NoiseVariantsForward<T>{x.data<T>(), y.mutable_data<T>(), x.numel(),
                                                    environments, alpha, stream});
    });
    return y;
  }

  Gradients backward(const OpContext&, const Tensor& dy) const {
    const std::int64_t blocks = environments + 1;
    Tensor dx =
        Tensor::empty(dy.shape().with_leading(dy.size(0) / blocks), dy.dtype(), dy.device());
    dispatch_float(dy.dtype(), name, [&]<class T>() {
      kernels::run(dy.device(), kernels::NoiseVariantsBackward<T>{
                                    dy.data<T>(), dx.mutable_data<T>(), dx.numel(), blocks});
    });
    return {dx};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](int environments) {
      return [environments](std::span<const Variable> x) {
        return noise_variants(x[0], environments, 0.1, {.seed = 7, .step = 1, .site = 2});
      };
    };
    return {{"one environment, one row", {random_normal({1, 3}, 1)}, with(1)},
            {"five environments", {random_normal({3, 5}, 1)}, with(5)},
            {"empty batch", {random_normal({0, 5}, 1)}, with(2)}};
  }
};

struct Corrupt {
  static constexpr std::string_view name = "corrupt";
  Corruption corruption;
  RandomStream stream;

  Tensor apply(const Tensor& x, bool linear_part_only) const {
    require(x.rank() >= 1, name, "needs [samples, ...], got {}", x.describe());
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    if (x.numel() == 0) return y;
    dispatch_float(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(),
                   kernels::Corrupt<T>{x.data<T>(), y.mutable_data<T>(), x.size(0),
                                       x.numel() / x.size(0), corruption.kind, corruption.rate,
                                       corruption.laplace_scale, linear_part_only, stream});
    });
    return y;
  }
  Tensor forward(OpContext&, std::span<const Tensor> inputs) const {
    return apply(inputs[0], false);
  }
  Gradients backward(const OpContext&, const Tensor& dy) const { return {apply(dy, true)}; }

  static std::vector<GradientCase> gradient_cases() {
    std::vector<GradientCase> cases;
    for (const auto kind : {CorruptionKind::gaussian, CorruptionKind::laplace,
                            CorruptionKind::erase, CorruptionKind::laplace_or_erase}) {
      const auto function = [kind](std::span<const Variable> x) {
        return corrupt(x[0], {.kind = kind, .rate = 0.4}, {.seed = 3, .site = 1});
      };
      const int number = static_cast<int>(kind);
      cases.push_back({fmt::format("kind {}", number), {random_normal({5, 7}, 1)}, function});
      cases.push_back(
          {fmt::format("kind {}, empty batch", number), {random_normal({0, 7}, 1)}, function});
    }
    return cases;
  }
};

}  // namespace

Variable noise_variants(const Variable& x, int environments, double alpha,
                        const RandomStream& stream) {
  require(environments >= 1, NoiseVariants::name, "needs at least one noisy environment, got {}",
          environments);
  require(std::isfinite(alpha), NoiseVariants::name, "alpha is {}", alpha);
  return apply_op(NoiseVariants{environments, alpha, stream}, {x});
}

Variable corrupt(const Variable& x, const Corruption& corruption, const RandomStream& stream) {
  require(corruption.rate >= 0 && corruption.rate <= 1, Corrupt::name,
          "rate must be in [0, 1], got {}", corruption.rate);
  require(corruption.laplace_scale >= 0 && std::isfinite(corruption.laplace_scale), Corrupt::name,
          "laplace_scale must be finite and not negative, got {}", corruption.laplace_scale);
  return apply_op(Corrupt{corruption, stream}, {x});
}

}  // namespace cmir::losses
