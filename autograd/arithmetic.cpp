#include "autograd/arithmetic.h"

#include "autograd/gradcheck.h"
#include "kernels/elementwise/axpy.h"

namespace cmir::ops {
namespace {

Tensor scaled(const Tensor& x, double alpha) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  dispatch_float(x.dtype(), "scale", [&]<class T>() {
    kernels::run(x.device(), kernels::Scale<T>{static_cast<T>(alpha), x.data<T>(),
                                               y.mutable_data<T>(), x.numel()});
  });
  return y;
}

struct WeightedSum {
  static constexpr std::string_view name = "weighted_sum";
  std::vector<double> weights;

  Tensor forward(OpContext&, std::span<const Tensor> terms) const {
    require(!terms.empty() && terms.size() == weights.size(), name,
            "{} terms need as many weights, got {}", terms.size(), weights.size());
    Tensor sum = scaled(terms[0], weights[0]);
    for (std::size_t i = 1; i < terms.size(); ++i) {
      require(terms[i].shape() == sum.shape() && terms[i].dtype() == sum.dtype(), name,
              "term {} is {}, the first is {}", i, terms[i].describe(), sum.describe());
      dispatch_float(sum.dtype(), name, [&]<class T>() {
        kernels::run(sum.device(), kernels::Axpy<T>{static_cast<T>(weights[i]), terms[i].data<T>(),
                                                    sum.mutable_data<T>(), sum.numel()});
      });
    }
    return sum;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    Gradients gradients(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (context.needs_gradient(i)) gradients[i] = weights[i] == 1.0 ? dy : scaled(dy, weights[i]);
    }
    return gradients;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto make = [](std::span<const Variable> x) {
      return weighted_sum({x[0], x[1], x[0]}, {0.5, -2.0, 1.0});
    };
    return {{"a term used twice", {random_normal({3, 5}, 1), random_normal({3, 5}, 2)}, make},
            {"empty", {random_normal({0, 5}, 1), random_normal({0, 5}, 2)}, make}};
  }
};

}  // namespace

Variable weighted_sum(const std::vector<Variable>& terms, const std::vector<double>& weights) {
  return apply_op(WeightedSum{weights}, terms);
}
Variable scale(const Variable& x, double alpha) { return weighted_sum({x}, {alpha}); }

Variable sum_of(const std::vector<Variable>& terms) {
  return weighted_sum(terms, std::vector<double>(terms.size(), 1.0));
}

}  // namespace cmir::ops
