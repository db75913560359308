#include "losses/pair_bound.h"

namespace cmir::losses {

Tensor PairBound::forward(std::string_view op, OpContext& context,
                          std::span<const Tensor> inputs) const {
  const AllPairs pairs(op, inputs, factor, precision);
  const Tensor& a = inputs[0];
  require(a.size(0) >= 2, op, "needs two samples or more, since it is over pairs of them; got {}",
          a.describe());
  PairSumTensors sums = pairs.sum_tensors(false, context.recording());
  PairWeightTensor weights(a, a.dtype(), false, context.recording());
  Tensor value = Tensor::empty({}, a.dtype(), a.device());
  Tensor average = log_average;
  dispatch_factor(pairs.a.dtype(), op, [&]<class T>() {
    using Sum = SumOf<T>;
    kernels::run(a.device(), pairs.sums<T>(sums));
    kernels::run(a.device(), kernels::PairBoundForward<Sum>{
                                 sums.totals<Sum>(), kind, rate,
                                 average.defined() ? average.mutable_data<double>() : nullptr,
                                 value.mutable_data<Sum>(), weights.to_write<Sum>()});
  });
  pairs.save(context, sums, weights);
  return value;
}

Gradients PairBound::backward(const OpContext& context, const Tensor& dy) const {
  return AllPairs(context, factor).gradients(context, dy);
}

}  // namespace cmir::losses
