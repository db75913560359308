#include "losses/rex.h"

#include "autograd/gradcheck.h"
#include "losses/environment_penalty.h"

namespace cmir::losses {
namespace {

struct RiskExtrapolation {
  static constexpr std::string_view name = "risk_extrapolation";
  std::string_view loss;  // what the user called, for messages
  kernels::EnvironmentPenaltyKind kind;
  double minimum_weight;
  EnvironmentGroups groups;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& losses = inputs[0];
    require(losses.rank() == 1, loss,
            "needs one loss per sample, [samples] (Reduction::none of the prediction losses), got "
            "{}",
            losses.describe());
    const Penalty penalty =
        environment_penalty(loss, {.kind = kind, .minimum_weight = minimum_weight}, losses, groups,
                            context.recording());
    if (context.recording()) context.save(penalty.derivatives);
    return penalty.value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return {times_cotangent(context.saved(0), dy)};
  }

  static std::vector<GradientCase> gradient_cases() {
    const EnvironmentGroups one = EnvironmentGroups::blocks(0, 1),
                            blocks = EnvironmentGroups::blocks(2, 3),
                            labels = EnvironmentGroups::by_labels(
                                Tensor::from<std::int32_t>({2, 0, 2, 0, 3, 2, 0}, {7}), 4);
    const auto by_variance = [](EnvironmentGroups groups) {
      return [groups](std::span<const Variable> x) { return vrex(x[0], groups); };
    };
    const auto by_maximum = [](EnvironmentGroups groups, double minimum_weight) {
      return [=](std::span<const Variable> x) { return mmrex(x[0], groups, minimum_weight); };
    };
    const Tensor three = random_normal({7}, 1), nine = random_normal({9}, 2);
    return {{"variance, one sample", {random_normal({1}, 1)}, by_variance(one)},
            {"variance, labels, one environment empty", {three}, by_variance(labels)},
            {"variance, blocks", {nine}, by_variance(blocks)},
            {"maximum, one sample", {random_normal({1}, 1)}, by_maximum(one, 1)},
            {"maximum, labels, one environment empty", {three}, by_maximum(labels, 0.1)},
            {"maximum, blocks, weights below 0", {nine}, by_maximum(blocks, -2)}};
  }
};

}  // namespace

Variable vrex(const Variable& losses, const EnvironmentGroups& environments) {
  return apply_op(
      RiskExtrapolation{"vrex", kernels::EnvironmentPenaltyKind::variance, 0, environments},
      {losses});
}

Variable mmrex(const Variable& losses, const EnvironmentGroups& environments,
               double minimum_weight) {
  require(environments.offsets.defined(), "mmrex", "needs environments, got none");
  const auto count = static_cast<double>(environments.count());
  require(minimum_weight * count <= 1 + 1e-12, "mmrex",
          "minimum_weight must be at most 1 / {}, the number of environments, got {}", count,
          minimum_weight);
  return apply_op(RiskExtrapolation{"mmrex", kernels::EnvironmentPenaltyKind::weighted_maximum,
                                    minimum_weight, environments},
                  {losses});
}

}  // namespace cmir::losses
