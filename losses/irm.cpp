#include "losses/irm.h"

#include "autograd/gradcheck.h"
#include "kernels/invariance/loss_slope.h"
#include "losses/environment_penalty.h"
#include "losses/prediction.h"

namespace cmir::losses {
namespace {

/// The penalty over samples' slopes [samples]. Keeps for backward the slopes' derivatives, of the
/// prediction's shape, and the penalty's by each slope.
Tensor penalise(std::string_view op, OpContext& context, const Tensor& slopes,
                const Tensor& derivatives, const EnvironmentGroups& groups,
                const IrmOptions& options) {
  const auto kind = options.unbiased ? kernels::EnvironmentPenaltyKind::halves_product
                                     : kernels::EnvironmentPenaltyKind::squared_means;
  const Penalty penalty =
      environment_penalty(op, {.kind = kind, .average = options.mean_over_environments}, slopes,
                          groups, context.recording());
  if (context.recording()) {
    context.save(derivatives);
    context.save(penalty.derivatives);
  }
  return penalty.value;
}

/// Of what penalise kept: cotangent d penalty / d slope_i d slope_i / d prediction_ij.
Gradients gradient_of_prediction(const OpContext& context, const Tensor& dy) {
  const Tensor &derivatives = context.saved(0), factors = times_cotangent(context.saved(1), dy);
  Tensor dx = Tensor::empty(derivatives.shape(), dy.dtype(), dy.device());
  const std::int64_t rows = dx.size(0);
  dispatch_float(dx.dtype(), "scale_rows", [&]<class T>() {
    kernels::run(dx.device(),
                 kernels::ScaleRows<T>{derivatives.data<T>(), factors.data<T>(), false, 1.0,
                                       dx.mutable_data<T>(), rows, dx.numel() / rows});
  });
  return {dx, Tensor()};
}

/// Empty, unless backward wants it.
Tensor derivatives_like(const OpContext& context, const Tensor& x) {
  return context.recording() ? Tensor::empty(x.shape(), x.dtype(), x.device()) : Tensor();
}
template <class T>
T* pointer_to(Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data<T>() : nullptr;
}

struct PointwiseIrm {
  static constexpr std::string_view name = "pointwise_irm";
  std::string_view loss;  // what the user called, for messages
  kernels::PointwiseLossKind kind;
  double positive_weight;
  EnvironmentGroups groups;
  IrmOptions options;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &x = inputs[0], &target = inputs[1];
    const bool filled = x.rank() > 0 && x.numel() > 0 && target.rank() > 0 && target.numel() > 0;
    require(filled && x.size(0) % target.size(0) == 0 &&
                x.numel() / x.size(0) == target.numel() / target.size(0),
            loss,
            "prediction {} and target {} must have the same outputs, and the prediction as many "
            "samples or a multiple of them, at least one",
            x.describe(), target.describe());
    Tensor slopes = Tensor::empty({x.size(0)}, x.dtype(), x.device());
    Tensor derivatives = derivatives_like(context, x);
    dispatch_float(x.dtype(), loss, [&]<class T>() {
      kernels::run(x.device(),
                   kernels::PointwiseSlope<T>{kind, static_cast<T>(positive_weight), x.data<T>(),
                                              target.data<T>(), slopes.mutable_data<T>(),
                                              pointer_to<T>(derivatives), x.size(0), target.size(0),
                                              x.numel() / x.size(0)});
    });
    return penalise(loss, context, slopes, derivatives, groups, options);
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return gradient_of_prediction(context, dy);
  }

  static std::vector<GradientCase> gradient_cases();
};

struct CrossEntropyIrm {
  static constexpr std::string_view name = "irm_cross_entropy";
  EnvironmentGroups groups;
  IrmOptions options;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &logits = inputs[0], &classes = inputs[1];
    require(logits.rank() == 2 && logits.numel() > 0 && classes.dtype() == DType::i32 &&
                classes.rank() == 1 && classes.numel() > 0 && logits.size(0) % classes.size(0) == 0,
            name,
            "needs logits [samples, classes] and i32 classes [samples], at least one, or of as "
            "many samples as the logits have a multiple of; got {} and {}",
            logits.describe(), classes.describe());
    check_classes(classes, logits.size(1));
    Tensor slopes = Tensor::empty({logits.size(0)}, logits.dtype(), logits.device());
    Tensor derivatives = derivatives_like(context, logits);
    const Tensor on_device = classes.on(logits.device());
    dispatch_float(logits.dtype(), name, [&]<class T>() {
      kernels::run(logits.device(), kernels::CrossEntropySlope<T>{
                                        logits.data<T>(), on_device.data<std::int32_t>(),
                                        slopes.mutable_data<T>(), pointer_to<T>(derivatives),
                                        logits.size(0), classes.size(0), logits.size(1)});
    });
    return penalise(name, context, slopes, derivatives, groups, options);
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return gradient_of_prediction(context, dy);
  }

  static std::vector<GradientCase> gradient_cases();
};

EnvironmentGroups labelled(const std::vector<std::int32_t>& labels, std::int64_t environments) {
  return EnvironmentGroups::by_labels(
      Tensor::from(labels, {static_cast<std::int64_t>(labels.size())}), environments);
}

std::vector<GradientCase> PointwiseIrm::gradient_cases() {
  const auto away = [](const Shape& shape) { return random_away_from_zero(shape, 3, 0.1); };
  const EnvironmentGroups one = EnvironmentGroups::blocks(0, 1),
                          three = labelled({2, 0, 2, 0, 2, 2, 0}, 3),
                          blocks = EnvironmentGroups::blocks(2, 3);
  const Tensor zeros = Tensor::zeros({7, 1}, DType::f64), t = random_normal({3, 2}, 2);
  const Tensor binary = Tensor::from({0.0, 1.0, 1.0, 0.0, 0.25, 1.0, 0.0}, {7});
  const Tensor extreme = Tensor::from({-800.0, -800.0, 750.0, 750.0, 0.0, -20.0, 30.0}, {7, 1});
  const IrmOptions halves{.unbiased = true}, sums{.mean_over_environments = false};
  return {
      {"mse, one sample",
       {random_normal({1}, 1)},
       [=](auto x) { return irm_mse(x[0], random_normal({1}, 2), one); }},
      {"mse, one sample, unbiased",
       {random_normal({1}, 1)},
       [=](auto x) { return irm_mse(x[0], random_normal({1}, 2), one, halves); }},
      {"mse, an empty environment",
       {random_normal({7}, 1)},
       [=](auto x) { return irm_mse(x[0], random_normal({7}, 2), three, sums); }},
      {"mse, two outputs, blocks of variants, unbiased",
       {random_normal({9, 2}, 1)},
       [=](auto x) { return irm_mse(x[0], t, blocks, halves); }},
      {"mae", {away({7, 1})}, [=](auto x) { return irm_mae(x[0], zeros, three); }},
      {"mae, unbiased",
       {away({7, 1})},
       [=](auto x) { return irm_mae(x[0], zeros, three, halves); }},
      {"binary, weighted, unbiased",
       {random_normal({7}, 1)},
       [=](auto x) {
         return irm_binary_cross_entropy_with_logits(x[0], binary, three, halves, 2.5);
       }},
      {"binary, logits that overflow exp",
       {extreme},
       [=](auto x) { return irm_binary_cross_entropy_with_logits(x[0], binary, three); },
       1e-5},
  };
}

std::vector<GradientCase> CrossEntropyIrm::gradient_cases() {
  const auto with = [](std::vector<std::int32_t> classes, EnvironmentGroups groups,
                       IrmOptions options) {
    const auto count = static_cast<std::int64_t>(classes.size());
    return [=, target = Tensor::from(classes, {count})](std::span<const Variable> x) {
      return irm_cross_entropy(x[0], target, groups, options);
    };
  };
  const EnvironmentGroups two = labelled({1, 0, 1, 0, 1}, 3);
  return {
      {"one sample", {random_normal({1, 7}, 1)}, with({3}, EnvironmentGroups::blocks(0, 1), {})},
      {"one class", {random_normal({5, 1}, 1)}, with({0, 0, 0, 0, 0}, two, {})},
      {"labels", {random_normal({5, 3}, 1)}, with({0, 1, 2, 1, 0}, two, {})},
      {"unbiased, sums", {random_normal({5, 3}, 1)}, with({0, 1, 2, 1, 0}, two, {true, false})},
      {"blocks of variants",
       {random_normal({6, 4}, 1)},
       with({0, 3}, EnvironmentGroups::blocks(2, 2), {})},
      {"equal maxima",
       {Tensor::from({2.0, 2.0, 1.0, 3.0, 3.0, 0.0, 1.0, 1.0, 1.0, 5.0, 2.0, 5.0, 0.0, 0.0, 0.0},
                     {5, 3})},
       with({0, 2, 1, 0, 2}, two, {})},
      {"logits that overflow exp",
       {Tensor::from({1000.0, -400.0, -900.0, -2000.0, -900.0, -1500.0}, {2, 3})},
       with({1, 2}, EnvironmentGroups::blocks(0, 2), {}),
       1e-5}};
}

Variable pointwise(std::string_view loss, kernels::PointwiseLossKind kind,
                   const Variable& prediction, const Tensor& target, double positive_weight,
                   const EnvironmentGroups& groups, const IrmOptions& options) {
  require(is_floating(target.dtype()), loss, "target must be f32 or f64, got {}",
          target.describe());
  return apply_op(PointwiseIrm{loss, kind, positive_weight, groups, options},
                  {prediction, Variable(target.to(prediction.dtype()).on(prediction.device()))});
}

}  // namespace

Variable irm_mse(const Variable& prediction, const Tensor& target,
                 const EnvironmentGroups& environments, const IrmOptions& options) {
  return pointwise("irm_mse", kernels::PointwiseLossKind::squared, prediction, target, 1,
                   environments, options);
}

Variable irm_mae(const Variable& prediction, const Tensor& target,
                 const EnvironmentGroups& environments, const IrmOptions& options) {
  return pointwise("irm_mae", kernels::PointwiseLossKind::absolute, prediction, target, 1,
                   environments, options);
}

Variable irm_binary_cross_entropy_with_logits(const Variable& logits, const Tensor& target,
                                              const EnvironmentGroups& environments,
                                              const IrmOptions& options, double positive_weight) {
  constexpr std::string_view name = "irm_binary_cross_entropy_with_logits";
  require(positive_weight > 0, name, "positive_weight must be above 0, got {}", positive_weight);
  check_probabilities(target);
  return pointwise(name, kernels::PointwiseLossKind::binary_logistic, logits, target,
                   positive_weight, environments, options);
}

Variable irm_cross_entropy(const Variable& logits, const Tensor& classes,
                           const EnvironmentGroups& environments, const IrmOptions& options) {
  return apply_op(CrossEntropyIrm{environments, options}, {logits, Variable(classes)});
}

}  // namespace cmir::losses
