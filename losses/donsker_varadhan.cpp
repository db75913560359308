#include "losses/donsker_varadhan.h"

#include <limits>

#include "autograd/gradcheck.h"
#include "losses/pair_bound.h"

namespace cmir::losses {
namespace {

struct DonskerVaradhan : PairBound {
  static constexpr std::string_view name = "donsker_varadhan";

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    return PairBound::forward(name, context, inputs);
  }
  static std::vector<GradientCase> gradient_cases() {
    const auto f = [](auto x) { return donsker_varadhan(x[0], x[1]); };
    return {{"two samples", {random_normal({2, 3}, 1), random_normal({2, 3}, 2)}, f},
            {"one feature", {random_normal({7, 1}, 1), random_normal({7, 1}, 2)}, f},
            {"dot", {random_normal({13, 3}, 1), random_normal({13, 3}, 2)}, f},
            {"cosine, learnt scale",
             {random_normal({7, 5}, 1), random_normal({7, 5}, 2), Tensor::scalar(0.3, DType::f64)},
             [](auto x) {
               return donsker_varadhan(x[0], x[1], {Critic::cosine, 0.5, x[2]});
             }},
            {"scores that overflow exp",
             {random_normal({5, 3}, 1), random_normal({5, 3}, 2)},
             [](auto x) {
               return donsker_varadhan(x[0], x[1], {Critic::dot, 1e-3});
             },
             1e-4},
            {"an average of this step alone",  // otherwise the gradient is not the value's
             {random_normal({7, 3}, 1), random_normal({7, 3}, 2)},
             [](auto x) {
               return donsker_varadhan(x[0], x[1], {}, ExpAverage::fresh(1, x[0].device()));
             }}};
  }
};

}  // namespace

ExpAverage ExpAverage::fresh(double rate, Device device) {
  return {Tensor::full({}, -std::numeric_limits<double>::infinity(), DType::f64, device), rate};
}

Variable donsker_varadhan(const Variable& a, const Variable& b, const CriticOptions& scores,
                          const ExpAverage& average) {
  const Tensor& state = average.logarithm;
  require(!state.defined() ||
              (state.numel() == 1 && state.dtype() == DType::f64 && state.device() == a.device()),
          DonskerVaradhan::name, "the average must be one f64 on {}, got {}",
          a.device().to_string(), state.describe());
  require(average.rate > 0 && average.rate <= 1, DonskerVaradhan::name,
          "the average's rate must be in (0, 1], got {}", average.rate);
  const auto inputs = pair_inputs(DonskerVaradhan::name, a, b, scores);
  return apply_op(DonskerVaradhan{{kernels::PairBoundKind::donsker_varadhan, 1 / scores.temperature,
                                   average.rate, state}},
                  std::span<const Variable>(inputs));
}

}  // namespace cmir::losses
