#include "losses/invariance.h"

#include <cmath>

#include "autograd/gradcheck.h"
#include "kernels/loss/divergence.h"
#include "kernels/loss/invariance.h"
#include "kernels/loss/prediction.h"

namespace cmir::losses {
namespace {

/// The number of samples N of x [(environments + 1) N, ...].
std::int64_t samples_of(const Tensor& x, std::int64_t environments, std::string_view op) {
  const std::int64_t variants = environments + 1;
  require(environments >= 1 && x.rank() >= 1 && x.numel() > 0 && x.size(0) % variants == 0, op,
          "needs one block of rows per variant, {} environments + 1 clean = {} blocks of equal "
          "size, not empty; got {}",
          environments, variants, x.describe());
  return x.size(0) / variants;
}

double pairs_of(std::int64_t environments) { return 0.5 * environments * (environments + 1); }

struct Invariance {
  static constexpr std::string_view name = "invariance";
  std::int64_t environments;
  InvarianceOptions options;

  double scale(const Shape& shape) const {
    const double samples = static_cast<double>(shape[0]) / (environments + 1);
    const double features = static_cast<double>(shape.numel()) / shape[0];
    return 1.0 /
           ((options.mean_over_features ? features : 1) * (options.mean_over_batch ? samples : 1) *
            (options.mean_over_pairs ? pairs_of(environments) : 1));
  }

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& z = inputs[0];
    samples_of(z, environments, name);
    const std::int64_t variants = environments + 1, count = z.numel() / variants;
    Tensor value = Tensor::empty({}, z.dtype(), z.device());
    Tensor ranks;  // one byte per element is all that backward needs
    if (context.recording()) ranks = Tensor::empty(z.shape(), DType::u8, z.device());
    dispatch_float(z.dtype(), name, [&]<class T>() {
      using Forward = kernels::InvarianceForward<T>;
      Tensor partial = Tensor::empty({Forward::workspace(count)}, DType::f64, z.device());
      kernels::run(
          z.device(),
          Forward{z.data<T>(), variants, count, scale(z.shape()), partial.mutable_data<double>(),
                  value.mutable_data<T>(),
                  ranks.defined() ? reinterpret_cast<std::int8_t*>(ranks.mutable_raw()) : nullptr});
    });
    if (context.recording()) context.save(ranks);
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor& ranks = context.saved(0);
    Tensor dz = Tensor::empty(ranks.shape(), dy.dtype(), dy.device());
    dispatch_float(dy.dtype(), name, [&]<class T>() {
      kernels::run(dy.device(), kernels::InvarianceBackward<T>{
                                    reinterpret_cast<const std::int8_t*>(ranks.raw()), dy.data<T>(),
                                    scale(dz.shape()), dz.mutable_data<T>(), dz.numel()});
    });
    return {dz};
  }

  /// Variants at least 0.5 apart, in another order for each position: no difference step crosses a
  /// kink.
  static Tensor spread(std::int64_t environments, std::int64_t samples, std::int64_t features) {
    Tensor z = random_normal({(environments + 1) * samples, features}, 1);
    const std::int64_t count = samples * features;
    auto values = z.mutable_span<double>();
    for (std::int64_t i = 0; i < z.numel(); ++i) {
      const std::int64_t variant = i / count, position = i % count;
      values[i] = 0.1 * std::tanh(values[i]) +
                  static_cast<double>((variant + position) % (environments + 1));
    }
    return z;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](int environments, InvarianceOptions options) {
      return [=](std::span<const Variable> x) { return invariance(x[0], environments, options); };
    };
    std::vector<GradientCase> cases{
        {"one environment, one sample, one feature", {spread(1, 1, 1)}, with(1, {})},
        {"four environments, sums", {spread(4, 3, 5)}, with(4, {false, false, false})},
        {"ten environments, mean over pairs", {spread(10, 2, 7)}, with(10, {true, true, true})}};
    // Where all variants are equal the function is even along any one of them: differences and the
    // subgradient are both 0.
    cases.push_back({"all variants equal", {Tensor::full({6, 3}, 1.0, DType::f64)}, with(2, {})});
    return cases;
  }
};

struct Divergence {
  static constexpr std::string_view name = "divergence";
  std::int64_t environments;
  DivergenceOptions options;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& logits = inputs[0];
    const std::int64_t rows = samples_of(logits, environments, name), variants = environments + 1;
    const double scale = 1.0 / ((options.mean_over_batch ? static_cast<double>(rows) : 1) *
                                (options.mean_over_pairs ? pairs_of(environments) : 1));
    Tensor value = Tensor::empty({}, logits.dtype(), logits.device());
    Tensor derivatives;
    if (context.recording())
      derivatives = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
    dispatch_float(logits.dtype(), name, [&]<class T>() {
      kernels::PairDivergence<T> kernel{
          logits.data<T>(),
          variants,
          rows,
          logits.numel() / (variants * rows),
          options.symmetric,
          scale,
          nullptr,
          value.mutable_data<T>(),
          derivatives.defined() ? derivatives.mutable_data<T>() : nullptr};
      Tensor scratch = Tensor::empty({rows, kernel.scratch_per_row()}, DType::f64, logits.device());
      kernel.scratch = scratch.mutable_data<double>();
      kernels::run(logits.device(), kernel);
    });
    if (context.recording()) context.save(derivatives);
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor& derivatives = context.saved(0);
    Tensor dx = Tensor::empty(derivatives.shape(), dy.dtype(), dy.device());
    dispatch_float(dy.dtype(), name, [&]<class T>() {
      kernels::run(dy.device(), kernels::ScaleRows<T>{derivatives.data<T>(), dy.data<T>(), true,
                                                      1.0, dx.mutable_data<T>(), dx.size(0),
                                                      dx.numel() / dx.size(0)});
    });
    return {dx};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](int environments, DivergenceOptions options) {
      return [=](std::span<const Variable> x) { return divergence(x[0], environments, options); };
    };
    return {
        {"one environment, one sample", {random_normal({2, 3}, 1)}, with(1, {})},
        {"directed, four environments", {random_normal({15, 7}, 1)}, with(4, {.symmetric = false})},
        {"symmetric, sums", {random_normal({9, 3}, 1)}, with(2, {.mean_over_batch = false})},
        {"one binary logit, directed", {random_normal({9}, 1)}, with(2, {.symmetric = false})},
        {"one binary logit, mean over pairs",
         {random_normal({9, 1}, 1)},
         with(2, {.mean_over_pairs = true})},
        {"logits that overflow exp",
         {Tensor::from({1000.0, -400.0, -900.0, -2000.0, -900.0, -1500.0}, {2, 3})},
         with(1, {})}};
  }
};

}  // namespace

Variable invariance(const Variable& z, int environments, const InvarianceOptions& options) {
  require(environments >= 1 && environments <= 127, Invariance::name,
          "environments must be 1 .. 127, got {}", environments);
  return apply_op(Invariance{environments, options}, {z});
}

Variable divergence(const Variable& logits, int environments, const DivergenceOptions& options) {
  return apply_op(Divergence{environments, options}, {logits});
}

}  // namespace cmir::losses
