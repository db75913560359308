#include "losses/prior_divergence.h"

#include "autograd/gradcheck.h"
#include "kernels/information/prior_divergence.h"

namespace cmir::losses {
namespace {

struct PriorDivergence {
  static constexpr std::string_view name = "prior_divergence";

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &mu = inputs[0], &logvar = inputs[1];
    require(
        mu.rank() == 2 && mu.numel() > 0 && mu.shape() == logvar.shape() &&
            mu.dtype() == logvar.dtype(),
        name,
        "needs mu and logvar of one shape [samples, features] and dtype, not empty; got {} and {}",
        mu.describe(), logvar.describe());
    Tensor value = Tensor::empty({}, mu.dtype(), mu.device());
    Tensor row_sums = Tensor::empty({mu.size(0)}, DType::f64, mu.device());
    dispatch_float(mu.dtype(), name, [&]<class T>() {
      kernels::run(mu.device(),
                   kernels::PriorDivergenceForward<T>{
                       mu.data<T>(), logvar.data<T>(), mu.size(0), mu.size(1), mean_over(mu),
                       row_sums.mutable_data<double>(), value.mutable_data<T>()});
    });
    if (context.recording()) {
      context.save(mu);
      context.save(logvar);
    }
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor &mu = context.saved(0), &logvar = context.saved(1);
    Tensor dmu = Tensor::empty(mu.shape(), mu.dtype(), mu.device());
    Tensor dlogvar = Tensor::empty(mu.shape(), mu.dtype(), mu.device());
    dispatch_float(mu.dtype(), name, [&]<class T>() {
      kernels::run(mu.device(),
                   kernels::PriorDivergenceBackward<T>{
                       mu.data<T>(), logvar.data<T>(), dy.data<T>(), mu.size(0), mu.size(1),
                       mean_over(mu), dmu.mutable_data<T>(), dlogvar.mutable_data<T>()});
    });
    return {dmu, dlogvar};
  }

  static double mean_over(const Tensor& rows) { return 1.0 / static_cast<double>(rows.size(0)); }

  static std::vector<GradientCase> gradient_cases() {
    const auto function = [](auto x) { return prior_divergence(x[0], x[1]); };
    std::vector<GradientCase> cases;
    for (const Shape& shape : {Shape{1, 1}, Shape{1, 5}, Shape{7, 3}, Shape{3, 9}}) {
      cases.push_back({fmt::format("[{}, {}]", shape[0], shape[1]),
                       {random_normal(shape, 1), random_normal(shape, 2)},
                       function});
    }
    cases.push_back({"an input used twice", {random_normal({3, 5}, 1)}, [](auto x) {
                       return prior_divergence(x[0], x[0]);
                     }});
    return cases;
  }
};

}  // namespace

Variable prior_divergence(const Variable& mu, const Variable& logvar) {
  return apply_op(PriorDivergence{}, {mu, logvar});
}

}  // namespace cmir::losses
