#include "losses/prediction.h"

#include "autograd/gradcheck.h"
#include "kernels/loss/prediction.h"

namespace cmir::losses {
namespace {

/// What forward leaves for backward is the derivative of each sample's value, of the prediction's
/// shape.
Tensor reduce_samples(const Tensor& values, Reduction reduction) {
  if (reduction == Reduction::none) return values;
  Tensor mean = Tensor::empty({}, values.dtype(), values.device());
  dispatch_float(values.dtype(), "mean_of_samples", [&]<class T>() {
    kernels::run(values.device(), kernels::MeanOfSamples<T>{
                                      values.data<T>(), mean.mutable_data<T>(), values.numel()});
  });
  return mean;
}

Tensor scale_derivatives(const Tensor& derivatives, const Tensor& cotangent, Reduction reduction) {
  Tensor dx = Tensor::empty(derivatives.shape(), derivatives.dtype(), derivatives.device());
  const std::int64_t rows = derivatives.size(0);
  const bool mean = reduction == Reduction::mean;
  dispatch_float(dx.dtype(), "scale_rows", [&]<class T>() {
    kernels::run(dx.device(),
                 kernels::ScaleRows<T>{derivatives.data<T>(), cotangent.data<T>(), mean,
                                       mean ? 1.0 / static_cast<double>(rows) : 1.0,
                                       dx.mutable_data<T>(), rows, dx.numel() / rows});
  });
  return dx;
}

struct Pointwise {
  static constexpr std::string_view name = "pointwise_loss";
  std::string_view loss;  // what the user called, for messages
  kernels::PointwiseLossKind kind;
  double positive_weight;
  Reduction reduction;
  std::int64_t repeats;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &prediction = inputs[0], &target = inputs[1];
    const std::int64_t rows = prediction.rank() == 0 ? 0 : prediction.size(0);
    require(
        rows > 0 && prediction.numel() == repeats * target.numel() && target.rank() > 0 &&
            repeats * target.size(0) == rows && prediction.numel() > 0,
        loss,
        "prediction {} and target {}, taken {} times, must have the same samples and outputs, at "
        "least one",
        prediction.describe(), target.describe(), repeats);
    Tensor values = Tensor::empty({rows}, prediction.dtype(), prediction.device());
    Tensor derivatives;
    if (context.recording()) {
      derivatives = Tensor::empty(prediction.shape(), prediction.dtype(), prediction.device());
    }
    dispatch_float(prediction.dtype(), loss, [&]<class T>() {
      kernels::run(
          prediction.device(),
          kernels::PointwiseLoss<T>{kind, static_cast<T>(positive_weight), prediction.data<T>(),
                                    target.data<T>(), values.mutable_data<T>(),
                                    derivatives.defined() ? derivatives.mutable_data<T>() : nullptr,
                                    rows, prediction.numel() / rows, rows / repeats});
    });
    if (context.recording()) context.save(derivatives);
    return reduce_samples(values, reduction);
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return {scale_derivatives(context.saved(0), dy, reduction), Tensor()};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto away = [](const Shape& shape) { return random_away_from_zero(shape, 3, 0.1); };
    const Tensor zeros = Tensor::zeros({7, 1}, DType::f64);
    const Tensor binary = Tensor::from({0.0, 1.0, 1.0, 0.0, 0.25, 1.0, 0.0}, {7});
    const Tensor extreme = Tensor::from({-800.0, -800.0, 750.0, 750.0, 0.0, -20.0, 30.0}, {7, 1});
    return {
        {"mse, one sample",
         {random_normal({1}, 1)},
         [=](auto x) { return mse(x[0], random_normal({1}, 2)); }},
        {"mse, three outputs, per sample",
         {random_normal({5, 3}, 1)},
         [=](auto x) {
           return mse(x[0], random_normal({5, 3}, 2), Reduction::none);
         }},
        {"mae", {away({7, 1})}, [=](auto x) { return mae(x[0], zeros); }},
        {"mae, per sample",
         {away({7, 1})},
         [=](auto x) { return mae(x[0], zeros, Reduction::none); }},
        {"binary, weighted",
         {random_normal({7}, 1)},
         [=](auto x) { return binary_cross_entropy_with_logits(x[0], binary, 2.5); }},
        {"binary, logits that overflow exp",
         {extreme},
         [=](auto x) {
           return binary_cross_entropy_with_logits(x[0], binary, 1.0, Reduction::none);
         }},
    };
  }
};

struct CrossEntropy {
  static constexpr std::string_view name = "cross_entropy";
  Reduction reduction;
  std::int64_t repeats;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &logits = inputs[0], &classes = inputs[1];
    require(
        logits.rank() == 2 && logits.numel() > 0 && classes.dtype() == DType::i32 &&
            classes.rank() == 1 && repeats * classes.size(0) == logits.size(0),
        name,
        "needs logits [samples, classes] and i32 classes [samples], at least one; got {} and {}, "
        "taken {} times",
        logits.describe(), classes.describe(), repeats);
    check_classes(classes, logits.size(1));
    Tensor values = Tensor::empty({logits.size(0)}, logits.dtype(), logits.device());
    Tensor derivatives;
    if (context.recording())
      derivatives = Tensor::empty(logits.shape(), logits.dtype(), logits.device());
    dispatch_float(logits.dtype(), name, [&]<class T>() {
      const Tensor on_device = classes.on(logits.device());
      kernels::run(logits.device(),
                   kernels::CrossEntropy<T>{
                       logits.data<T>(), on_device.data<std::int32_t>(), values.mutable_data<T>(),
                       derivatives.defined() ? derivatives.mutable_data<T>() : nullptr,
                       logits.size(0), logits.size(1), classes.size(0)});
    });
    if (context.recording()) context.save(derivatives);
    return reduce_samples(values, reduction);
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return {scale_derivatives(context.saved(0), dy, reduction), Tensor()};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](std::vector<std::int32_t> classes, Reduction reduction) {
      const auto count = static_cast<std::int64_t>(classes.size());
      return [target = Tensor::from(classes, {count}), reduction](std::span<const Variable> x) {
        return cross_entropy(x[0], target, reduction);
      };
    };
    return {
        {"one sample", {random_normal({1, 7}, 1)}, with({3}, Reduction::mean)},
        {"one class", {random_normal({2, 1}, 1)}, with({0, 0}, Reduction::mean)},
        {"per sample", {random_normal({5, 3}, 1)}, with({0, 1, 2, 1, 0}, Reduction::none)},
        {"equal maxima", {Tensor::full({3, 4}, 2.0, DType::f64)}, with({0, 1, 3}, Reduction::mean)},
        {"logits that overflow exp",
         {Tensor::from({1000.0, -400.0, -900.0, -2000.0, -900.0, -1500.0}, {2, 3})},
         with({1, 2}, Reduction::mean)}};
  }
};

Variable pointwise(std::string_view loss, kernels::PointwiseLossKind kind,
                   const Variable& prediction, const Tensor& target, double positive_weight,
                   Reduction reduction, std::int64_t repeats) {
  require(is_floating(target.dtype()), loss, "target must be f32 or f64, got {}",
          target.describe());
  return apply_op(Pointwise{loss, kind, positive_weight, reduction, repeats},
                  {prediction, Variable(target.to(prediction.dtype()).on(prediction.device()))});
}

}  // namespace

Variable mse(const Variable& prediction, const Tensor& target, Reduction reduction,
             std::int64_t repeats) {
  return pointwise("mse", kernels::PointwiseLossKind::squared, prediction, target, 1, reduction,
                   repeats);
}

Variable mae(const Variable& prediction, const Tensor& target, Reduction reduction,
             std::int64_t repeats) {
  return pointwise("mae", kernels::PointwiseLossKind::absolute, prediction, target, 1, reduction,
                   repeats);
}

Variable binary_cross_entropy_with_logits(const Variable& logits, const Tensor& target,
                                          double positive_weight, Reduction reduction,
                                          std::int64_t repeats) {
  constexpr std::string_view name = "binary_cross_entropy_with_logits";
  require(positive_weight > 0, name, "positive_weight must be above 0, got {}", positive_weight);
  check_probabilities(target);
  return pointwise(name, kernels::PointwiseLossKind::binary_logistic, logits, target,
                   positive_weight, reduction, repeats);
}

void check_probabilities(const Tensor& target) {
  const auto values = target.to_vector();
  for (std::size_t i = 0; i < values.size(); ++i) {
    require(values[i] >= 0 && values[i] <= 1, "binary_cross_entropy_with_logits",
            "target {} is {}, outside [0, 1]", i, values[i]);
  }
}

void check_classes(const Tensor& classes, std::int64_t count) {
  for (std::int64_t i = 0; const std::int32_t chosen : classes.span<std::int32_t>()) {
    require(
        chosen >= 0 && chosen < count, CrossEntropy::name,
        "sample {} has class {}, but the logits have {} classes; give the model more outputs or "
        "check the labels",
        i, chosen, count);
    ++i;
  }
}

Variable cross_entropy(const Variable& logits, const Tensor& classes, Reduction reduction,
                       std::int64_t repeats) {
  return apply_op(CrossEntropy{reduction, repeats}, {logits, Variable(classes)});
}

}  // namespace cmir::losses
