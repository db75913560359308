#include "losses/all_pairs.h"

#include <cmath>

#include "autograd/gradcheck.h"
#include "kernels/information/unit_rows.h"
#include "kernels/loss/decorrelation.h"
#include "kernels/reduce/sum.h"

namespace cmir::losses {
namespace {

struct UnitRows {
  static constexpr std::string_view name = "unit_rows";

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& x = inputs[0];
    require(x.rank() == 2, name, "needs [rows, width], got {}", x.describe());
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    Tensor inverse_norm = Tensor::empty({x.size(0)}, DType::f64, x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      kernels::run(x.device(), kernels::UnitRowsForward<T>{x.data<T>(), y.mutable_data<T>(),
                                                           inverse_norm.mutable_data<double>(),
                                                           x.size(0), x.size(1)});
    });
    if (context.recording()) {
      context.save(y);
      context.save(inverse_norm);
    }
    return y;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor& y = context.saved(0);
    Tensor dx = Tensor::empty(y.shape(), y.dtype(), y.device());
    dispatch_float(y.dtype(), name, [&]<class T>() {
      kernels::run(y.device(), kernels::UnitRowsBackward<T>{
                                   y.data<T>(), context.saved(1).data<double>(), dy.data<T>(),
                                   dx.mutable_data<T>(), y.size(0), y.size(1)});
    });
    return {dx};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto f = [](auto x) { return unit_rows(x[0]); };
    return {{"one element", {random_away_from_zero({1, 1}, 1, 0.5)}, f},
            {"rows", {random_normal({3, 7}, 1)}, f},
            {"no rows", {random_normal({0, 7}, 1)}, f}};
  }
};

/// What AllPairs::save keeps, by number.
enum Saved : std::size_t {
  kA,
  kB,
  kLogScale,
  kWeights,
  kKept,
};
static_assert(kKept + 1 == AllPairs::kSaved);

}  // namespace

Variable unit_rows(const Variable& x) { return apply_op(UnitRows{}, {x}); }

std::vector<Variable> pair_inputs(std::string_view op, const Variable& a, const Variable& b,
                                  const CriticOptions& options) {
  require(options.temperature > 0 && std::isfinite(static_cast<float>(1 / options.temperature)), op,
          "temperature must be positive, got {}", options.temperature);
  std::vector<Variable> inputs{a, b};
  if (options.critic == Critic::cosine) inputs = {unit_rows(a), unit_rows(b)};
  if (options.log_scale.defined()) inputs.push_back(options.log_scale);
  return inputs;
}

AllPairs::AllPairs(std::string_view op, std::span<const Tensor> inputs, double factor_of_scores,
                   Precision precision)
    : a(inputs[0]),
      b(inputs[1]),
      log_scale(inputs.size() == 3 ? inputs[2] : Tensor()),
      factor(factor_of_scores) {
  require(a.rank() == 2 && a.numel() > 0 && a.shape() == b.shape() && a.dtype() == b.dtype(), op,
          "needs two [samples, features] of one shape and dtype, not empty; got {} and {}",
          a.describe(), b.describe());
  require(!log_scale.defined() || (log_scale.numel() == 1 && log_scale.dtype() == a.dtype()), op,
          "log_scale must be one {}, got {}", name_of(a.dtype()), log_scale.describe());
  a = as_factor(op, a, precision);
  b = as_factor(op, b, precision);
}

AllPairs::AllPairs(const OpContext& context, double factor_of_scores)
    : a(context.saved(kA)),
      b(context.saved(kB)),
      log_scale(context.saved(kLogScale)),
      factor(factor_of_scores),
      kept(context.saved(kKept)) {}

void AllPairs::save(OpContext& context, const PairSumTensors& sums,
                    const PairWeightTensor& weights) const {
  if (!context.recording()) return;
  for (const Tensor& tensor : {a, b, log_scale, weights.values, sums.kept}) context.save(tensor);
}

PairSumTensors AllPairs::sum_tensors(bool columns, bool for_gradients) const {
  return dispatch_factor(a.dtype(), "pair_sums", [&]<class T>() {
    using Kernel = kernels::PairSums<T>;
    constexpr DType dtype = dtype_of<SumOf<T>>;
    const std::int64_t n = a.size(0);
    const auto array = [&](std::int64_t count, DType type) {
      return Tensor::empty({count}, type, a.device());
    };
    const bool keep = for_gradients && a.device().is_cpu() && n <= kernels::kPairKept;
    return PairSumTensors{array(n, dtype),
                          array(n, dtype),
                          array(n, DType::f64),
                          columns ? array(n, dtype) : Tensor(),
                          columns ? array(n, DType::f64) : Tensor(),
                          array(Kernel::workspace_size(n), dtype),
                          array(Kernel::partial_size(n), DType::f64),
                          keep ? array(n * n, dtype) : Tensor()};
  });
}

Gradients AllPairs::gradients(const OpContext& context, const Tensor& cotangent) const {
  const bool scale_needed = log_scale.defined() && context.needs_gradient(2);
  const auto [da, db] = factor_gradients(
      context, cotangent, context.needs_gradient(0) || scale_needed, context.needs_gradient(1));
  Gradients gradients(log_scale.defined() ? 3 : 2);
  if (context.needs_gradient(0)) gradients[0] = da;
  gradients[1] = db;
  if (scale_needed) {
    gradients[2] = dispatch_factor(a.dtype(), "pair_gradient",
                                   [&, &da = da]<class T>() { return scale_gradient<T>(da); });
  }
  return gradients;
}

std::pair<Tensor, Tensor> AllPairs::factor_gradients(const OpContext& context,
                                                     const Tensor& cotangent, bool of_a,
                                                     bool of_b) const {
  const DType dtype = cotangent.dtype();
  Tensor da = of_a ? Tensor::empty(a.shape(), dtype, a.device()) : Tensor();
  Tensor db = of_b ? Tensor::empty(b.shape(), dtype, b.device()) : Tensor();
  dispatch_factor(a.dtype(), "pair_gradient", [&]<class T>() {
    run_gradient<T>(PairWeightTensor(context.saved(kWeights)), cotangent, da, db);
  });
  return {da, db};
}

template <class T>
kernels::PairScores<T> AllPairs::scores() const {
  return {a.data<T>(), b.data<T>(), a.size(0),
          a.size(1),   factor,      log_scale.defined() ? log_scale.data<SumOf<T>>() : nullptr};
}

template <class T>
kernels::PairSums<T> AllPairs::sums(PairSumTensors& tensors) const {
  using Sum = SumOf<T>;
  const bool columns = tensors.column_largest.defined();
  return {scores<T>(),
          tensors.diagonal.mutable_data<Sum>(),
          tensors.row_largest.mutable_data<Sum>(),
          tensors.row_sum.mutable_data<double>(),
          columns ? tensors.column_largest.mutable_data<Sum>() : nullptr,
          columns ? tensors.column_sum.mutable_data<double>() : nullptr,
          tensors.workspace.mutable_data<Sum>(),
          tensors.partial.mutable_data<double>(),
          tensors.kept.defined() ? tensors.kept.mutable_data<Sum>() : nullptr};
}
template kernels::PairSums<float> AllPairs::sums(PairSumTensors&) const;
template kernels::PairSums<double> AllPairs::sums(PairSumTensors&) const;
template kernels::PairSums<BFloat16> AllPairs::sums(PairSumTensors&) const;

template <class T>
void AllPairs::run_gradient(const PairWeightTensor& weights, const Tensor& cotangent, Tensor& da,
                            Tensor& db) const {
  using Kernel = kernels::PairGradient<T>;
  using Sum = SumOf<T>;
  Tensor workspace = Tensor::empty({Kernel::workspace_size(a.device(), a.size(0), a.size(1))},
                                   dtype_of<Sum>, a.device());
  const kernels::PairWeights<const Sum> w = weights.to_read<Sum>();
  kernels::run(a.device(),
               Kernel{scores<T>(), w.row_weight, w.row_shift, w.column_weight, w.column_shift,
                      w.diagonal_weight, da.defined() ? da.mutable_data<Sum>() : nullptr,
                      db.defined() ? db.mutable_data<Sum>() : nullptr,
                      workspace.mutable_data<Sum>(), kept.defined() ? kept.data<Sum>() : nullptr,
                      cotangent.data<Sum>(), cotangent.rank() == 0});
}

/// sum_ij dS_ij s_ij = sum_i a_i . da_i, as da_i = scale sum_j dS_ij b_j.
template <class T>
Tensor AllPairs::scale_gradient(const Tensor& da) const {
  using Total = kernels::SumAll<SumOf<T>>;
  const std::int64_t n = a.size(0);
  Tensor of_rows = Tensor::empty({n}, da.dtype(), a.device());
  Tensor workspace = Tensor::empty({Total::workspace_size(n)}, DType::f64, a.device());
  Tensor gradient = Tensor::empty(log_scale.shape(), da.dtype(), a.device());
  kernels::run(a.device(), kernels::RowDot<T>{a.data<T>(), da.data<SumOf<T>>(),
                                              of_rows.mutable_data<SumOf<T>>(), n, a.size(1)});
  kernels::run(a.device(), Total{1, of_rows.data<SumOf<T>>(), gradient.mutable_data<SumOf<T>>(),
                                 workspace.mutable_data<double>(), n});
  return gradient;
}

}  // namespace cmir::losses
