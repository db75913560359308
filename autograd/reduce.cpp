#include "autograd/reduce.h"

#include "autograd/gradcheck.h"
#include "kernels/reduce/sum.h"

namespace cmir::ops {
namespace {

struct Reduce {
  static constexpr std::string_view name = "reduce";
  Over over;
  bool divide;  // by the count: a mean
  Shape shape;  // of x

  std::int64_t count() const {
    return over == Over::all ? shape.numel() : over == Over::leading ? shape.rows() : shape.width();
  }
  double scale() const { return divide ? 1.0 / static_cast<double>(count()) : 1.0; }

  Shape result_shape() const {
    if (over == Over::all) return {};
    if (over == Over::leading) return {shape.width()};
    return Shape(shape.sizes().first(static_cast<std::size_t>(shape.rank()) - 1));
  }

  Tensor forward(OpContext&, std::span<const Tensor> inputs) const {
    const Tensor& x = inputs[0];
    require(over == Over::all || x.rank() > 0, name, "{} has no last dimension; use Over::all",
            x.describe());
    require(!divide || count() > 0, name, "the mean over no elements of {} is undefined",
            x.describe());
    Tensor y = Tensor::empty(result_shape(), x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() { reduce<T>(x, y); });
    return y;
  }

  template <class T>
  void reduce(const Tensor& x, Tensor& y) const {
    const std::int64_t rows = shape.rows(), width = shape.width();
    const auto workspace = [&](std::int64_t size) {
      return Tensor::empty({size}, DType::f64, x.device());
    };
    if (over == Over::all) {
      Tensor partial = workspace(kernels::SumAll<T>::workspace_size(x.numel()));
      kernels::run(x.device(), kernels::SumAll<T>{scale(), x.data<T>(), y.mutable_data<T>(),
                                                  partial.mutable_data<double>(), x.numel()});
    } else if (over == Over::leading) {
      Tensor partial = workspace(kernels::SumOverRows<T>::workspace_size(rows, width));
      kernels::run(x.device(),
                   kernels::SumOverRows<T>{scale(), x.data<T>(), nullptr, y.mutable_data<T>(),
                                           partial.mutable_data<double>(), rows, width});
    } else {
      kernels::run(x.device(), kernels::SumOverColumns<T>{scale(), x.data<T>(), y.mutable_data<T>(),
                                                          rows, width});
    }
  }

  Gradients backward(const OpContext&, const Tensor& dy) const {
    Tensor dx = Tensor::empty(shape, dy.dtype(), dy.device());
    dispatch_float(dy.dtype(), name, [&]<class T>() {
      kernels::run(dy.device(),
                   kernels::Broadcast<T>{scale(), dy.data<T>(), over == Over::last ? 1 : 0,
                                         over == Over::leading ? 1 : 0, dx.mutable_data<T>(),
                                         shape.rows(), shape.width()});
    });
    return {dx};
  }

  static std::vector<GradientCase> gradient_cases() {
    std::vector<GradientCase> cases;
    for (const Over over : {Over::all, Over::leading, Over::last}) {
      for (const bool divide : {false, true}) {
        for (const Shape& shape :
             {Shape{1, 1}, Shape{3, 7}, Shape{67, 2}, Shape{2, 3, 5}, Shape{4}}) {
          cases.push_back({fmt::format("over {}, mean {}, {}", static_cast<int>(over), divide,
                                       shape.to_string()),
                           {random_normal(shape, 1)},
                           [=](std::span<const Variable> v) {
                             return divide ? mean(v[0], over) : sum(v[0], over);
                           }});
        }
      }
      cases.push_back({"an empty sum",
                       {random_normal({0, 3}, 1)},
                       [=](std::span<const Variable> v) { return sum(v[0], over); }});
    }
    cases.push_back({"a scalar", {random_normal({}, 1)}, [](std::span<const Variable> v) {
                       return sum(v[0]);
                     }});
    return cases;
  }
};

}  // namespace

Variable sum(const Variable& x, Over over) { return apply_op(Reduce{over, false, x.shape()}, {x}); }
Variable mean(const Variable& x, Over over) { return apply_op(Reduce{over, true, x.shape()}, {x}); }

}  // namespace cmir::ops
