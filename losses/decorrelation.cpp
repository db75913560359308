#include "losses/decorrelation.h"

#include "autograd/gradcheck.h"
#include "kernels/loss/decorrelation.h"
#include "kernels/loss/normalise.h"
#include "kernels/loss/prediction.h"
#include "kernels/matrix/gemm.h"

namespace cmir::losses {
namespace {

/// c = alpha op(a) op(b) + beta c, for matrices that are whole tensors.
template <class T>
void multiply(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, Tensor& c,
              double alpha = 1, double beta = 0) {
  kernels::run(a.device(), kernels::Gemm<T>{.transpose_a = transpose_a,
                                            .transpose_b = transpose_b,
                                            .m = c.size(0),
                                            .n = c.size(1),
                                            .k = a.size(transpose_a ? 0 : 1),
                                            .alpha = static_cast<T>(alpha),
                                            .a = a.data<T>(),
                                            .lda = a.size(1),
                                            .b = b.data<T>(),
                                            .ldb = b.size(1),
                                            .beta = static_cast<T>(beta),
                                            .c = c.mutable_data<T>(),
                                            .ldc = c.size(1)});
}

/// What forward saves, by number.
enum Saved : std::size_t { kA, kB, kInverseA, kInverseB, kFactor, kFirst, kSecond, kDiagonal };

struct Decorrelation {
  static constexpr std::string_view name = "decorrelation";
  DecorrelationOptions options;

  kernels::NormaliseAxis axis() const {
    return options.axis == NormalisationAxis::per_sample ? kernels::NormaliseAxis::rows
                                                         : kernels::NormaliseAxis::columns;
  }
  double scale(const Tensor& z) const {
    if (options.scale == DecorrelationScale::none) return 1;
    return 1.0 /
           static_cast<double>(z.size(options.scale == DecorrelationScale::by_features ? 1 : 0));
  }
  double diagonal_weight() const { return 1 - options.alpha * options.alpha; }
  static bool uses_cross(const Tensor& z) { return z.size(0) <= z.size(1); }

  struct Normalised {
    Tensor y, inverse_std;
  };
  template <class T>
  Normalised normalise(const Tensor& x) const {
    const std::int64_t groups = x.size(options.axis == NormalisationAxis::per_sample ? 0 : 1);
    Normalised out{Tensor::empty(x.shape(), x.dtype(), x.device()),
                   Tensor::empty({groups}, DType::f64, x.device())};
    kernels::run(x.device(), kernels::NormaliseForward<T>{x.data<T>(), out.y.mutable_data<T>(),
                                                          out.inverse_std.mutable_data<double>(),
                                                          x.size(0), x.size(1), axis(),
                                                          options.unbiased_std, options.epsilon});
    return out;
  }

  Tensor forward(OpContext& context, std::span<const Tensor> z) const {
    require(z[0].rank() == 2 && z[0].numel() > 0 && z[0].shape() == z[1].shape() &&
                z[0].dtype() == z[1].dtype(),
            name, "needs two [samples, features] of one shape and dtype, not empty; got {} and {}",
            z[0].describe(), z[1].describe());
    return dispatch_float(z[0].dtype(), name, [&]<class T>() { return forward_as<T>(context, z); });
  }

  template <class T>
  Tensor forward_as(OpContext& context, std::span<const Tensor> z) const {
    const DType dtype = z[0].dtype();
    const Device device = z[0].device();
    const std::int64_t samples = z[0].size(0), features = z[0].size(1);
    const auto [a, inverse_a] = normalise<T>(z[0]);
    const auto [b, inverse_b] = normalise<T>(z[1]);
    Tensor value = Tensor::empty({}, dtype, device), factor = Tensor::empty({}, DType::f64, device);
    Tensor first, second, diagonal;
    if (uses_cross(a)) {
      first = Tensor::empty({samples, samples}, dtype, device);
      multiply<T>(a, false, b, true, first);
      Tensor row_sums = Tensor::empty({samples}, DType::f64, device);
      kernels::run(device,
                   kernels::CrossNorm<T>{first.mutable_data<T>(), samples, options.alpha, scale(a),
                                         row_sums.mutable_data<double>(), value.mutable_data<T>(),
                                         factor.mutable_data<double>()});
    } else {
      first = Tensor::empty({features, features}, dtype, device);
      second = Tensor::empty({features, features}, dtype, device);
      multiply<T>(a, true, a, false, first);
      multiply<T>(b, true, b, false, second);
      if (diagonal_weight() != 0) {
        diagonal = Tensor::empty({samples}, dtype, device);
        kernels::run(device, kernels::RowDot<T>{a.template data<T>(), b.template data<T>(),
                                                diagonal.mutable_data<T>(), samples, features});
      }
      Tensor row_sums = Tensor::empty({features, 3}, DType::f64, device);
      kernels::run(device, kernels::GramNorm<T>{
                               first.data<T>(), second.data<T>(),
                               diagonal.defined() ? diagonal.data<T>() : nullptr, features, samples,
                               options.alpha, scale(a), row_sums.mutable_data<double>(),
                               value.mutable_data<T>(), factor.mutable_data<double>()});
    }
    if (context.recording()) {
      for (const Tensor& tensor : {a, b, inverse_a, inverse_b, factor, first, second, diagonal}) {
        context.save(tensor);
      }
    }
    return value;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return dispatch_float(dy.dtype(), name, [&]<class T>() {
      Gradients gradients(2);
      if (context.needs_gradient(0)) gradients[0] = side<T>(context, dy, true);
      if (context.needs_gradient(1)) gradients[1] = side<T>(context, dy, false);
      return gradients;
    });
  }

  /// The gradient of z_invariant (or of z_spurious): that of its normalised form, through the
  /// normalisation in place.
  template <class T>
  Tensor side(const OpContext& context, const Tensor& dy, bool invariant) const {
    const Tensor& own = context.saved(invariant ? kA : kB);
    const Tensor& other = context.saved(invariant ? kB : kA);
    Tensor gradient = Tensor::empty(own.shape(), own.dtype(), own.device());
    if (uses_cross(own)) {
      multiply<T>(context.saved(kFirst), !invariant, other, false, gradient);
    } else {
      const Tensor& diagonal = context.saved(kDiagonal);
      if (diagonal.defined()) {
        kernels::run(
            own.device(),
            kernels::ScaleRows<T>{other.data<T>(), diagonal.data<T>(), false, diagonal_weight(),
                                  gradient.mutable_data<T>(), own.size(0), own.size(1)});
      }
      multiply<T>(own, false, context.saved(invariant ? kSecond : kFirst), false, gradient,
                  options.alpha * options.alpha, diagonal.defined() ? 1 : 0);
    }
    const T* in = gradient.data<T>();
    kernels::run(
        own.device(),
        kernels::NormaliseBackward<T>{
            own.data<T>(), in,
            context.saved(invariant ? kInverseA : kInverseB).template data<double>(), dy.data<T>(),
            context.saved(kFactor).template data<double>(), gradient.mutable_data<T>(), own.size(0),
            own.size(1), axis(), options.unbiased_std});
    return gradient;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto make = [](std::string name_of_case, Shape shape, DecorrelationOptions options) {
      return GradientCase{
          std::move(name_of_case),
          {random_normal(shape, 1), random_normal(shape, 2)},
          [options](std::span<const Variable> z) { return decorrelation(z[0], z[1], options); }};
    };
    const auto per_feature = NormalisationAxis::per_feature;
    std::vector<GradientCase> cases{
        make("one sample", {1, 7}, {}),
        make("one feature", {5, 1}, {}),
        make("one sample per feature", {1, 3}, {.axis = per_feature}),
        make("cross form", {3, 7}, {}),
        make("cross form, alpha 0.1, unbiased, per feature", {5, 7},
             {.alpha = 0.1,
              .axis = per_feature,
              .unbiased_std = true,
              .scale = DecorrelationScale::by_samples}),
        make("gram form", {11, 5}, {}),
        make("gram form, alpha 0.3, unbiased, by features", {11, 5},
             {.alpha = 0.3, .unbiased_std = true, .scale = DecorrelationScale::by_features}),
        make("gram form, alpha 0.3, per feature", {11, 5}, {.alpha = 0.3, .axis = per_feature})};
    const auto twice = [](std::span<const Variable> z) {
      return decorrelation(z[0], z[0], {.alpha = 0.5});
    };
    cases.push_back({"an input used twice", {random_normal({3, 5}, 1)}, twice});
    return cases;
  }
};

}  // namespace

Variable decorrelation(const Variable& z_invariant, const Variable& z_spurious,
                       const DecorrelationOptions& options) {
  require(options.alpha > 0 && options.alpha <= 1, Decorrelation::name,
          "alpha must be in (0, 1], got {}", options.alpha);
  require(options.epsilon >= 0, Decorrelation::name, "epsilon must not be negative, got {}",
          options.epsilon);
  return apply_op(Decorrelation{options}, {z_invariant, z_spurious});
}

}  // namespace cmir::losses
