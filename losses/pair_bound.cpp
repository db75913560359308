#include "losses/pair_bound.h"

namespace cmir::losses {

Tensor PairBound::forward(std::string_view op, OpContext& context,
                          std::span<const Tensor> inputs) const {
  const AllPairs pairs(op, inputs, factor, precision);
  const Tensor& a = inputs[0];
  require(a.size(0) >= 2, op, "needs two samples or more, since it is over pairs of them; got {}",
          a.describe());
  const PairSumTensors sums = pairs.sums(false, context.recording());
  Tensor value = Tensor::empty({}, a.dtype(), a.device());
  Tensor log_denominator = Tensor::empty({}, DType::f64, a.device());
  Tensor average = log_average;
  dispatch_float(a.dtype(), op, [&]<class T>() {
    kernels::run(a.device(), kernels::PairBoundForward<T>{
                                 sums.totals<T>(), kind, rate,
                                 average.defined() ? average.mutable_data<double>() : nullptr,
                                 value.mutable_data<T>(), log_denominator.mutable_data<double>()});
  });
  pairs.save(context, sums);
  if (context.recording()) context.save(log_denominator);
  return value;
}

Gradients PairBound::backward(const OpContext& context, const Tensor& dy) const {
  const PairSumTensors sums = AllPairs::saved_sums(context);
  PairWeights weights(sums);
  dispatch_float(dy.dtype(), "pair_bound_backward", [&]<class T>() {
    kernels::run(
        dy.device(),
        kernels::PairBoundBackward<T>{
            sums.totals<T>(), dy.data<T>(), context.saved(AllPairs::kSaved).template data<double>(),
            weights.row_weight<T>(), weights.row_shift<T>(), weights.diagonal_weight<T>()});
  });
  return AllPairs(context, factor).gradients(context, weights);
}

}  // namespace cmir::losses
