#include "losses/information.h"

#include "autograd/gradcheck.h"
#include "kernels/information/club.h"
#include "kernels/information/club_sample.h"
#include "kernels/information/gaussian.h"
#include "kernels/information/gaussian_scores.h"
#include "kernels/information/leave_one_out.h"
#include "losses/all_pairs.h"

namespace cmir::losses {
namespace {

void check_inputs(std::string_view name, std::span<const Tensor> inputs) {
  for (const Tensor& input : inputs) {
    require(input.rank() == 2 && input.numel() > 0 && input.shape() == inputs[0].shape() &&
                input.dtype() == inputs[0].dtype(),
            name,
            "needs mu, logvar and y of one shape [samples, features] and dtype, not empty; got {} "
            "and {}",
            inputs[0].describe(), input.describe());
  }
}

Tensor scratch(std::int64_t count, const Tensor& like) {
  return Tensor::empty({count}, DType::f64, like.device());
}

double mean_over(const Tensor& rows) { return 1.0 / static_cast<double>(rows.size(0)); }

/// One gradient per input where it is needed, to be filled.
Gradients empty_gradients(const OpContext& context, const Tensor& like, std::size_t inputs) {
  Gradients gradients(inputs);
  for (std::size_t i = 0; i < inputs; ++i) {
    if (context.needs_gradient(i)) {
      gradients[i] = Tensor::empty(like.shape(), like.dtype(), like.device());
    }
  }
  return gradients;
}
template <class T>
T* data_or_null(Tensor& tensor) {
  return tensor.defined() ? tensor.mutable_data<T>() : nullptr;
}
template <class T>
const T* data_or_null(const Tensor& tensor) {
  return tensor.defined() ? tensor.data<T>() : nullptr;
}

std::vector<Tensor> random_inputs(const Shape& shape, std::size_t count = 3) {
  std::vector<Tensor> inputs;
  for (std::size_t i = 0; i < count; ++i) inputs.push_back(random_normal(shape, i + 1));
  return inputs;
}
const std::vector<Shape>& awkward_shapes() {
  static const std::vector<Shape> shapes{{1, 1}, {1, 5}, {2, 1}, {3, 7}, {7, 3}, {5, 9}};
  return shapes;
}
template <class Function>
std::vector<GradientCase> cases_of(std::size_t inputs, Function&& function) {
  std::vector<GradientCase> cases;
  for (const Shape& shape : awkward_shapes()) {
    cases.push_back(
        {fmt::format("[{}, {}]", shape[0], shape[1]), random_inputs(shape, inputs), function});
  }
  return cases;
}

struct GaussianNll {
  static constexpr std::string_view name = "gaussian_nll";

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    check_inputs(name, inputs);
    const Tensor& mu = inputs[0];
    Tensor value = Tensor::empty({}, mu.dtype(), mu.device());
    Tensor row_sums = scratch(mu.size(0), mu);
    dispatch_float(mu.dtype(), name, [&]<class T>() {
      kernels::run(mu.device(), kernels::GaussianNllForward<T>{
                                    mu.data<T>(), inputs[1].data<T>(), inputs[2].data<T>(),
                                    mu.size(0), mu.size(1), mean_over(mu),
                                    row_sums.mutable_data<double>(), value.mutable_data<T>()});
    });
    if (context.recording()) {
      for (const Tensor& input : inputs) context.save(input);
    }
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor& mu = context.saved(0);
    Gradients gradients = empty_gradients(context, mu, 3);
    dispatch_float(mu.dtype(), name, [&]<class T>() {
      kernels::run(mu.device(), kernels::GaussianNllBackward<T>{
                                    mu.data<T>(), context.saved(1).data<T>(),
                                    context.saved(2).data<T>(), dy.data<T>(), mu.size(0),
                                    mu.size(1), mean_over(mu), data_or_null<T>(gradients[0]),
                                    data_or_null<T>(gradients[1]), data_or_null<T>(gradients[2])});
    });
    return gradients;
  }

  static std::vector<GradientCase> gradient_cases() {
    auto cases = cases_of(3, [](auto x) { return gaussian_nll(x[0], x[1], x[2]); });
    cases.push_back({"an input used twice", random_inputs({3, 5}, 2),
                     [](auto x) { return gaussian_nll(x[0], x[1], x[0]); }});
    return cases;
  }
};

/// Inputs mu, logvar, y; or mu, y, where the variances are 1.
struct Club {
  static constexpr std::string_view name = "club";

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    check_inputs(name, inputs);
    const Tensor &mu = inputs.front(), &y = inputs.back();
    const std::int64_t rows = mu.size(0), width = mu.size(1);
    Tensor value = Tensor::empty({}, mu.dtype(), mu.device());
    Tensor moments = scratch(kernels::kClubMoments * width, mu);
    dispatch_float(mu.dtype(), name, [&]<class T>() {
      using Kernel = kernels::ClubForward<T>;
      Tensor partial = scratch(Kernel::workspace(rows, width), mu);
      kernels::run(mu.device(),
                   Kernel{mu.data<T>(), inputs.size() == 3 ? inputs[1].data<T>() : nullptr,
                          y.data<T>(), rows, width, mean_over(mu), partial.mutable_data<double>(),
                          moments.mutable_data<double>(), value.mutable_data<T>()});
    });
    if (context.recording()) {
      context.save(moments);
      for (const Tensor& input : inputs) context.save(input);
    }
    return value;
  }

  template <bool kWeighted>
  Gradients gradients(const OpContext& context, const Tensor& dy) const {
    constexpr std::size_t inputs = kWeighted ? 3 : 2;
    const Tensor &mu = context.saved(1), &y = context.saved(inputs);
    Gradients gradients = empty_gradients(context, mu, inputs);
    dispatch_float(mu.dtype(), name, [&]<class T>() {
      const T* logvar = kWeighted ? context.saved(2).data<T>() : nullptr;
      T* dlogvar = kWeighted ? data_or_null<T>(gradients[1]) : nullptr;
      kernels::run(mu.device(), kernels::ClubBackward<T>{
                                    mu.data<T>(), logvar, y.data<T>(),
                                    context.saved(0).data<double>(), dy.data<T>(), mu.size(0),
                                    mu.size(1), mean_over(mu), data_or_null<T>(gradients[0]),
                                    dlogvar, data_or_null<T>(gradients[inputs - 1])});
    });
    return gradients;
  }
  bool weighted;
  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return weighted ? gradients<true>(context, dy) : gradients<false>(context, dy);
  }

  static std::vector<GradientCase> gradient_cases() {
    auto cases = cases_of(3, [](auto x) { return club(x[0], x[1], x[2]); });
    for (GradientCase& with_unit_variance :
         cases_of(2, [](auto x) { return club_mean(x[0], x[1]); })) {
      with_unit_variance.name += ", unit variances";
      cases.push_back(std::move(with_unit_variance));
    }
    cases.push_back({"an input used twice", random_inputs({3, 5}, 2),
                     [](auto x) { return club(x[0], x[1], x[0]); }});
    return cases;
  }
};

struct ClubSample {
  static constexpr std::string_view name = "club_sample";
  RandomStream stream;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    check_inputs(name, inputs);
    const Tensor& mu = inputs[0];
    const std::int64_t rows = mu.size(0);
    require(rows <= std::int64_t{1} << 30, name, "takes at most 2^30 samples, got {}", rows);
    Tensor value = Tensor::empty({}, mu.dtype(), mu.device());
    Tensor row_sums = scratch(rows, mu);
    Tensor permutation = Tensor::empty({rows}, DType::i32, mu.device());
    Tensor inverse = Tensor::empty({rows}, DType::i32, mu.device());
    kernels::run(mu.device(), kernels::Permute<std::int32_t>{
                                  stream, rows, permutation.mutable_data<std::int32_t>(),
                                  inverse.mutable_data<std::int32_t>()});
    dispatch_float(mu.dtype(), name, [&]<class T>() {
      kernels::run(mu.device(),
                   kernels::ClubSampleForward<T>{
                       mu.data<T>(), inputs[1].data<T>(), inputs[2].data<T>(),
                       permutation.data<std::int32_t>(), rows, mu.size(1), mean_over(mu),
                       row_sums.mutable_data<double>(), value.mutable_data<T>()});
    });
    if (context.recording()) {
      for (const Tensor& input : inputs) context.save(input);
      context.save(permutation);
      context.save(inverse);
    }
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor& mu = context.saved(0);
    Gradients gradients = empty_gradients(context, mu, 3);
    dispatch_float(mu.dtype(), name, [&]<class T>() {
      kernels::run(
          mu.device(),
          kernels::ClubSampleBackward<T>{
              mu.data<T>(), context.saved(1).data<T>(), context.saved(2).data<T>(),
              context.saved(3).data<std::int32_t>(), context.saved(4).data<std::int32_t>(),
              dy.data<T>(), mu.size(0), mu.size(1), mean_over(mu), data_or_null<T>(gradients[0]),
              data_or_null<T>(gradients[1]), data_or_null<T>(gradients[2])});
    });
    return gradients;
  }

  static std::vector<GradientCase> gradient_cases() {
    return cases_of(
        3, [](auto x) { return club_sample(x[0], x[1], x[2], {.seed = 3, .step = 1, .site = 2}); });
  }
};

struct L1Out {
  static constexpr std::string_view name = "l1out";
  /// What forward saves after AllPairs, by number.
  enum Saved : std::size_t { kMu = AllPairs::kSaved, kLogvar, kY, kMeans };

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    check_inputs(name, inputs);
    require(inputs[0].size(0) >= 2, name,
            "compares a sample with the others: it needs at least two samples, got {}",
            inputs[0].describe());
    return dispatch_float(inputs[0].dtype(), name,
                          [&]<class T>() { return forward_as<T>(context, inputs); });
  }

  template <class T>
  Tensor forward_as(OpContext& context, std::span<const Tensor> inputs) const {
    using Scores = kernels::GaussianScoresForward<T>;
    const Tensor &mu = inputs[0], &logvar = inputs[1], &y = inputs[2];
    const Device device = mu.device();
    const std::int64_t rows = mu.size(0), width = mu.size(1);
    const Shape factor_shape{rows, kernels::gaussian_score_depth(width)};
    Tensor means = scratch(2 * width, mu), own = scratch(rows, mu), of_rows = scratch(rows, mu);
    Tensor a = Tensor::empty(factor_shape, mu.dtype(), device);
    Tensor b = Tensor::empty(factor_shape, mu.dtype(), device);
    Tensor value = Tensor::empty({}, mu.dtype(), device);
    kernels::run(device, Scores{mu.data<T>(), logvar.data<T>(), y.data<T>(), rows, width,
                                means.mutable_data<double>(), a.mutable_data<T>(),
                                b.mutable_data<T>(), own.mutable_data<double>()});
    const AllPairs pairs(a, b);
    PairSumTensors sums = pairs.sum_tensors(false, context.recording());
    PairWeightTensor weights(mu, mu.dtype(), false, context.recording());
    kernels::run(device,
                 kernels::LeaveOneOutForward<T>{pairs.sums<T>(sums), own.data<double>(),
                                                mean_over(mu), of_rows.mutable_data<double>(),
                                                value.mutable_data<T>(), weights.to_write<T>()});
    pairs.save(context, sums, weights);
    if (context.recording()) {
      for (const Tensor& tensor : {mu, logvar, y, means}) context.save(tensor);
    }
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return dispatch_float(dy.dtype(), name, [&]<class T>() { return backward_as<T>(context, dy); });
  }

  template <class T>
  Gradients backward_as(const OpContext& context, const Tensor& dy) const {
    const Tensor& mu = context.saved(kMu);
    const auto [da, db] =
        AllPairs(context, 1)
            .factor_gradients(context, dy, context.needs_gradient(2),
                              context.needs_gradient(0) || context.needs_gradient(1));
    Gradients gradients = empty_gradients(context, mu, 3);
    kernels::run(
        dy.device(),
        kernels::GaussianScoresBackward<T>{
            mu.data<T>(), context.saved(kLogvar).data<T>(), context.saved(kY).data<T>(),
            context.saved(kMeans).data<double>(), data_or_null<T>(da), data_or_null<T>(db),
            dy.data<T>(), mu.size(0), mu.size(1), mean_over(mu), data_or_null<T>(gradients[0]),
            data_or_null<T>(gradients[1]), data_or_null<T>(gradients[2])});
    return gradients;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto f = [](auto x) { return l1out(x[0], x[1], x[2]); };
    std::vector<GradientCase> cases;
    for (GradientCase& each : cases_of(3, f)) {
      if (each.inputs[0].size(0) > 1) cases.push_back(std::move(each));
    }
    cases.push_back({"more than one tile", random_inputs({130, 1}), f});
    cases.push_back({"an input used twice", random_inputs({3, 5}, 2),
                     [](auto x) { return l1out(x[0], x[1], x[0]); }});
    cases.push_back({"equal rows",
                     {Tensor::full({4, 3}, 0.5, DType::f64), Tensor::zeros({4, 3}, DType::f64),
                      Tensor::full({4, 3}, 0.25, DType::f64)},
                     f});
    return cases;
  }
};

}  // namespace

Variable gaussian_nll(const Variable& mu, const Variable& logvar, const Variable& y) {
  return apply_op(GaussianNll{}, {mu, logvar, y});
}
Variable club(const Variable& mu, const Variable& logvar, const Variable& y) {
  return apply_op(Club{.weighted = true}, {mu, logvar, y});
}
Variable club_mean(const Variable& mu, const Variable& y) {
  return apply_op(Club{.weighted = false}, {mu, y});
}
Variable club_sample(const Variable& mu, const Variable& logvar, const Variable& y,
                     const RandomStream& stream) {
  return apply_op(ClubSample{stream}, {mu, logvar, y});
}
Variable l1out(const Variable& mu, const Variable& logvar, const Variable& y) {
  return apply_op(L1Out{}, {mu, logvar, y});
}

}  // namespace cmir::losses
