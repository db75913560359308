#include "losses/info_nce.h"

#include "autograd/gradcheck.h"
#include "autograd/linear.h"
#include "kernels/information/info_nce.h"

namespace cmir::losses {
namespace {

/// Inputs as pair_inputs gives them. The losses [n], or their mean [].
struct InfoNce {
  static constexpr std::string_view name = "info_nce";
  bool symmetric;
  double factor;
  bool mean = false;
  Precision precision = current_precision();

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const AllPairs pairs(name, inputs, factor, precision);
    const Tensor& a = inputs[0];
    PairSumTensors sums = pairs.sum_tensors(symmetric, context.recording());
    PairWeightTensor weights(a, a.dtype(), symmetric, context.recording());
    Tensor losses = Tensor::empty({a.size(0)}, a.dtype(), a.device());
    Tensor value = mean ? Tensor::empty({}, a.dtype(), a.device()) : Tensor();
    dispatch_factor(pairs.a.dtype(), name, [&]<class T>() {
      using Sum = SumOf<T>;
      kernels::run(a.device(),
                   kernels::InfoNceForward<T>{pairs.sums<T>(sums), losses.mutable_data<Sum>(),
                                              mean ? value.mutable_data<Sum>() : nullptr,
                                              weights.to_write<Sum>()});
    });
    pairs.save(context, sums, weights);
    return mean ? value : losses;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return AllPairs(context, factor).gradients(context, dy);
  }

  static std::vector<GradientCase> gradient_cases() {
    std::vector<GradientCase> cases;
    for (const auto critic : {Critic::cosine, Critic::dot}) {
      for (const bool symmetric : {false, true}) {
        const InfoNceOptions options{{critic, 0.5}, symmetric};
        const auto what = fmt::format("{}, {}", critic == Critic::dot ? "dot" : "cosine",
                                      symmetric ? "symmetric" : "one way");
        for (const Shape& shape : {Shape{1, 3}, Shape{2, 1}, Shape{7, 5}, Shape{13, 3}}) {
          if (critic == Critic::cosine && shape[1] == 1) continue;  // a step function
          cases.push_back({fmt::format("[{}, {}], {}", shape[0], shape[1], what),
                           {random_normal(shape, 1), random_normal(shape, 2)},
                           [options](auto x) { return info_nce_losses(x[0], x[1], options); }});
        }
        cases.push_back({"mean, " + what,
                         {random_normal({7, 5}, 1), random_normal({7, 5}, 2)},
                         [options](auto x) { return info_nce(x[0], x[1], options); }});
        cases.push_back(
            {"learnt scale, " + what,
             {random_normal({7, 5}, 1), random_normal({7, 5}, 2), Tensor::scalar(0.3, DType::f64)},
             [critic, symmetric](auto x) {
               return info_nce_losses(x[0], x[1], {{critic, 0.5, x[2]}, symmetric});
             }});
        cases.push_back({"an input used twice, " + what,
                         {random_normal({5, 3}, 1)},
                         [options](auto x) { return info_nce_losses(x[0], x[0], options); }});
      }
    }
    cases.push_back({"equal rows",
                     {Tensor::full({5, 3}, 0.5, DType::f64), random_normal({5, 3}, 1)},
                     [](auto x) {
                       return info_nce_losses(x[0], x[1], {{Critic::cosine, 1.0}});
                     }});
    cases.push_back(
        {"bilinear",
         {random_normal({5, 3}, 1), random_normal({5, 4}, 2), random_normal({4, 3}, 3)},
         [](auto x) { return info_nce_losses(ops::linear(x[0], x[2]), x[1], {CriticOptions{}}); }});
    cases.push_back({"scores that overflow exp",
                     {random_normal({5, 3}, 1), random_normal({5, 3}, 2)},
                     [](auto x) {
                       return info_nce_losses(x[0], x[1], {{Critic::dot, 1e-3}});
                     },
                     1e-4});
    return cases;
  }
};

}  // namespace

Variable info_nce_losses(const Variable& a, const Variable& b, const InfoNceOptions& options) {
  const auto inputs = pair_inputs(InfoNce::name, a, b, options.scores);
  return apply_op(InfoNce{options.symmetric, 1 / options.scores.temperature},
                  std::span<const Variable>(inputs));
}
Variable info_nce(const Variable& a, const Variable& b, const InfoNceOptions& options) {
  const auto inputs = pair_inputs(InfoNce::name, a, b, options.scores);
  return apply_op(InfoNce{options.symmetric, 1 / options.scores.temperature, /*mean=*/true},
                  std::span<const Variable>(inputs));
}

}  // namespace cmir::losses
