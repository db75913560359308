#include "autograd/dropout.h"

#include "autograd/gradcheck.h"
#include "kernels/dropout/dropout.h"

namespace cmir::ops {
namespace {

struct Dropout {
  static constexpr std::string_view name = "dropout";
  double p;
  RandomStream stream;

  Tensor masked(const Tensor& x) const {
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(),
                   kernels::Dropout<T>{x.data<T>(), y.mutable_data<T>(), x.numel(), p, stream});
    });
    return y;
  }
  Tensor forward(OpContext&, std::span<const Tensor> inputs) const { return masked(inputs[0]); }
  Gradients backward(const OpContext&, const Tensor& dy) const { return {masked(dy)}; }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](double p) {
      return [p](std::span<const Variable> v) {
        return dropout(v[0], p, {.seed = 7, .step = 3, .site = 1});
      };
    };
    return {{"some dropped", {random_normal({5, 7}, 1)}, with(0.3)},
            {"nearly all dropped", {random_normal({67}, 1)}, with(0.9)},
            {"none dropped", {random_normal({3, 3}, 1)}, with(0.0)},
            {"empty", {random_normal({0, 3}, 1)}, with(0.5)},
            {"a scalar", {random_normal({}, 1)}, with(0.1)}};
  }
};

}  // namespace

Variable dropout(const Variable& x, double p, const RandomStream& stream) {
  require(p >= 0 && p < 1, Dropout::name, "the probability must be in [0, 1), got {}", p);
  return p == 0 ? x : apply_op(Dropout{p, stream}, {x});
}

}  // namespace cmir::ops
