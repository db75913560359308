#include "losses/nwj.h"

#include "autograd/gradcheck.h"
#include "losses/pair_bound.h"

namespace cmir::losses {
namespace {

struct Nwj : PairBound {
  static constexpr std::string_view name = "nwj";

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    return PairBound::forward(name, context, inputs);
  }
  static std::vector<GradientCase> gradient_cases() {
    const auto f = [](auto x) { return nwj(x[0], x[1]); };
    return {{"two samples", {random_normal({2, 3}, 1), random_normal({2, 3}, 2)}, f},
            {"one feature", {random_normal({7, 1}, 1), random_normal({7, 1}, 2)}, f},
            {"dot", {random_normal({13, 3}, 1), random_normal({13, 3}, 2)}, f},
            {"cosine, learnt scale",
             {random_normal({7, 5}, 1), random_normal({7, 5}, 2), Tensor::scalar(0.3, DType::f64)},
             [](auto x) {
               return nwj(x[0], x[1], {Critic::cosine, 0.5, x[2]});
             }},
            {"an input used twice", {random_normal({5, 3}, 1)}, [](auto x) {
               return nwj(x[0], x[0], {Critic::cosine, 0.5});
             }}};
  }
};

}  // namespace

Variable nwj(const Variable& a, const Variable& b, const CriticOptions& scores) {
  const auto inputs = pair_inputs(Nwj::name, a, b, scores);
  return apply_op(Nwj{{kernels::PairBoundKind::nwj, 1 / scores.temperature}},
                  std::span<const Variable>(inputs));
}

}  // namespace cmir::losses
