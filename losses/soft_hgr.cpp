#include "losses/soft_hgr.h"

#include <algorithm>

#include "autograd/gradcheck.h"
#include "kernels/elementwise/axpy.h"
#include "kernels/loss/decorrelation.h"
#include "kernels/loss/prediction.h"
#include "kernels/matrix/gemm.h"
#include "kernels/reduce/sum.h"

namespace cmir::losses {
namespace {

template <class T>
Tensor centred(const Tensor& x) {
  const std::int64_t n = x.size(0), d = x.size(1);
  using Means = kernels::SumOverRows<T>;
  Tensor mean = Tensor::empty({d}, x.dtype(), x.device());
  Tensor scratch = Tensor::empty({Means::workspace_size(n, d)}, DType::f64, x.device());
  kernels::run(x.device(), Means{1.0 / static_cast<double>(n), x.data<T>(), nullptr,
                                 mean.mutable_data<T>(), scratch.mutable_data<double>(), n, d});
  Tensor out = Tensor::empty(x.shape(), x.dtype(), x.device());
  kernels::run(x.device(),
               kernels::Broadcast<T>{-1, mean.data<T>(), 0, 1, out.mutable_data<T>(), n, d});
  kernels::run(x.device(), kernels::Axpy<T>{1, x.data<T>(), out.mutable_data<T>(), x.numel()});
  return out;
}

/// c = alpha op(a) b + beta c, op the transpose where `transpose`.
template <class T>
void multiply(const Tensor& a, bool transpose, const Tensor& b, Tensor& c, double alpha,
              double beta) {
  kernels::run(a.device(), kernels::Gemm<T>{.transpose_a = transpose,
                                            .m = c.size(0),
                                            .n = c.size(1),
                                            .k = b.size(0),
                                            .alpha = static_cast<T>(alpha),
                                            .a = a.data<T>(),
                                            .lda = a.size(1),
                                            .b = b.data<T>(),
                                            .ldb = b.size(1),
                                            .beta = static_cast<T>(beta),
                                            .c = c.mutable_data<T>(),
                                            .ldc = c.size(1)});
}

template <class T>
Tensor covariance(const Tensor& x, double n) {
  Tensor out = Tensor::empty({x.size(1), x.size(1)}, x.dtype(), x.device());
  multiply<T>(x, true, x, out, 1 / n, 0);
  return out;
}

/// scale <a, b> over all elements.
template <class T>
Tensor scaled_product(const Tensor& a, const Tensor& b, double scale) {
  using Sum = kernels::SumAll<T>;
  const std::int64_t rows = a.size(0);
  Tensor dots = Tensor::empty({rows}, a.dtype(), a.device());
  Tensor scratch = Tensor::empty({Sum::workspace_size(rows)}, DType::f64, a.device());
  Tensor out = Tensor::empty({}, a.dtype(), a.device());
  kernels::run(a.device(), kernels::RowDot<T>{a.data<T>(), b.data<T>(), dots.mutable_data<T>(),
                                              rows, a.size(1)});
  kernels::run(a.device(), Sum{scale, dots.data<T>(), out.mutable_data<T>(),
                               scratch.mutable_data<double>(), rows});
  return out;
}

/// What forward saves, by number: the centred inputs and their covariances.
enum Saved : std::size_t { kF, kG, kCovF, kCovG };

struct SoftHgr {
  static constexpr std::string_view name = "soft_hgr";

  /// N - 1; of one sample, whose centred features are 0, 1.
  static double degrees_of_freedom(const Tensor& x) {
    return static_cast<double>(std::max<std::int64_t>(1, x.size(0) - 1));
  }

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &f = inputs[0], &g = inputs[1];
    require(f.rank() == 2 && f.numel() > 0 && f.shape() == g.shape() && f.dtype() == g.dtype(),
            name, "needs two [samples, features] of one shape and dtype, not empty; got {} and {}",
            f.describe(), g.describe());
    return dispatch_float(f.dtype(), name, [&]<class T>() {
      const double n = degrees_of_freedom(f);
      const Tensor a = centred<T>(f), b = centred<T>(g);
      const Tensor cov_a = covariance<T>(a, n), cov_b = covariance<T>(b, n);
      Tensor value = scaled_product<T>(a, b, 1 / n);
      const Tensor penalty = scaled_product<T>(cov_a, cov_b, 1);
      kernels::run(f.device(), kernels::Axpy<T>{static_cast<T>(-0.5), penalty.data<T>(),
                                                value.mutable_data<T>(), 1});
      if (context.recording()) {
        for (const Tensor& tensor : {a, b, cov_a, cov_b}) context.save(tensor);
      }
      return value;
    });
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    return dispatch_float(dy.dtype(), name, [&]<class T>() {
      Gradients gradients(2);
      if (context.needs_gradient(0)) gradients[0] = side<T>(context, dy, kF, kG, kCovG);
      if (context.needs_gradient(1)) gradients[1] = side<T>(context, dy, kG, kF, kCovF);
      return gradients;
    });
  }

  /// dy (other - own cov(other)) / n.
  template <class T>
  Tensor side(const OpContext& context, const Tensor& dy, Saved own, Saved other,
              Saved covariance_of_other) const {
    Tensor gradient = context.saved(other).clone();
    multiply<T>(context.saved(own), false, context.saved(covariance_of_other), gradient, -1, 1);
    T* out = gradient.mutable_data<T>();
    kernels::run(dy.device(),
                 kernels::ScaleRows<T>{out, dy.data<T>(), true, 1 / degrees_of_freedom(gradient),
                                       out, gradient.size(0), gradient.size(1)});
    return gradient;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto make = [](std::string name_of_case, Shape shape) {
      return GradientCase{std::move(name_of_case),
                          {random_normal(shape, 1), random_normal(shape, 2)},
                          [](std::span<const Variable> z) { return soft_hgr(z[0], z[1]); }};
    };
    std::vector<GradientCase> cases{make("one sample", {1, 3}), make("two samples", {2, 3}), make("one feature", {5, 1}),
                                    make("fewer samples than features", {3, 7}),
                                    make("more samples than features", {11, 5})};
    cases.push_back({"an input used twice", {random_normal({5, 3}, 1)}, [](auto z) {
                       return soft_hgr(z[0], z[0]);
                     }});
    return cases;
  }
};

}  // namespace

Variable soft_hgr(const Variable& f, const Variable& g) { return apply_op(SoftHgr{}, {f, g}); }

}  // namespace cmir::losses
