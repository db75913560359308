#include "autograd/rows.h"

#include "autograd/gradcheck.h"
#include "kernels/rows/copy.h"

namespace cmir::ops {
namespace {

/// Copies `width` columns from column `x_column` of x to column `y_column` of y, both read as
/// matrices.
void copy_columns(std::string_view op, const Tensor& x, std::int64_t x_column, Tensor& y,
                  std::int64_t y_column, std::int64_t width) {
  dispatch_float(x.dtype(), op, [&]<class T>() {
    kernels::run(x.device(), kernels::CopyColumns<T>{x.data<T>() + x_column, x.shape().width(),
                                                     y.mutable_data<T>() + y_column,
                                                     y.shape().width(), x.shape().rows(), width});
  });
}

struct Concat {
  static constexpr std::string_view name = "concat";
  std::vector<std::int64_t> widths;

  Tensor forward(OpContext&, std::span<const Tensor> parts) const {
    const Tensor& first = parts[0];
    std::int64_t total = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const Shape& shape = parts[i].shape();
      require(
          shape.rank() >= 1 && first.rank() >= 1 &&
              shape.with_width(1) == first.shape().with_width(1) &&
              parts[i].dtype() == first.dtype(),
          name,
          "part {} is {}, the first is {}: all but the last dimension and the dtypes must be equal",
          i, parts[i].describe(), first.describe());
      total += widths[i];
    }
    Tensor y = Tensor::empty(first.shape().with_width(total), first.dtype(), first.device());
    std::int64_t column = 0;
    for (std::size_t i = 0; i < parts.size(); column += widths[i++])
      copy_columns(name, parts[i], 0, y, column, widths[i]);
    return y;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    Gradients gradients(widths.size());
    std::int64_t column = 0;
    for (std::size_t i = 0; i < widths.size(); column += widths[i++]) {
      if (!context.needs_gradient(i)) continue;
      gradients[i] = Tensor::empty(dy.shape().with_width(widths[i]), dy.dtype(), dy.device());
      copy_columns(name, dy, column, gradients[i], 0, widths[i]);
    }
    return gradients;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto call = [](std::span<const Variable> v) { return concat({v.begin(), v.end()}); };
    const auto twice = [](std::span<const Variable> v) { return concat({v[0], v[0]}); };
    return {{"three widths, one empty",
             {random_normal({3, 5}, 1), random_normal({3, 0}, 2), random_normal({3, 2}, 3)},
             call},
            {"rank 3", {random_normal({2, 3, 1}, 1), random_normal({2, 3, 4}, 2)}, call},
            {"rank 1", {random_normal({3}, 1), random_normal({1}, 2)}, call},
            {"no rows", {random_normal({0, 5}, 1), random_normal({0, 2}, 2)}, call},
            {"an input used twice", {random_normal({2, 3}, 1)}, twice}};
  }
};

struct SliceColumns {
  static constexpr std::string_view name = "slice_columns";
  std::int64_t begin, end;
  Shape shape;

  Tensor forward(OpContext&, std::span<const Tensor> inputs) const {
    const Tensor& x = inputs[0];
    require(x.rank() >= 1 && 0 <= begin && begin <= end && end <= x.shape().width(), name,
            "columns [{}, {}) are not within {}", begin, end, x.describe());
    Tensor y = Tensor::empty(shape.with_width(end - begin), x.dtype(), x.device());
    copy_columns(name, x, begin, y, 0, end - begin);
    return y;
  }
  Gradients backward(const OpContext&, const Tensor& dy) const {
    Tensor dx = Tensor::zeros(shape, dy.dtype(), dy.device());
    copy_columns(name, dy, 0, dx, begin, end - begin);
    return {dx};
  }
  static std::vector<GradientCase> gradient_cases() {
    const auto call = [](std::span<const Variable> v) { return slice_columns(v[0], 1, 3); };
    const auto split = [](std::span<const Variable> v) {
      const auto parts = split_columns(v[0], {2, 0, 3});
      return concat({parts[2], parts[1], parts[0]});
    };
    return {{"inner columns", {random_normal({3, 5}, 1)}, call},
            {"rank 3", {random_normal({2, 2, 3}, 1)}, call},
            {"no rows", {random_normal({0, 4}, 1)}, call},
            {"split and joined in another order", {random_normal({3, 5}, 1)}, split}};
  }
};

struct SliceRows {
  static constexpr std::string_view name = "slice_rows";
  std::int64_t begin, end;
  Shape shape;

  Tensor forward(OpContext&, std::span<const Tensor> inputs) const {
    const Tensor& x = inputs[0];
    require(x.rank() >= 1 && 0 <= begin && begin <= end && end <= x.size(0), name,
            "rows [{}, {}) are not within {}", begin, end, x.describe());
    return x.slice(begin, end);
  }
  Gradients backward(const OpContext&, const Tensor& dy) const {
    Tensor dx = Tensor::zeros(shape, dy.dtype(), dy.device());
    Tensor rows = dx.slice(begin, end);
    copy_columns(name, dy, 0, rows, 0, dy.shape().width());
    return {dx};
  }
  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](std::int64_t begin, std::int64_t end) {
      return [=](std::span<const Variable> v) { return slice_rows(v[0], begin, end); };
    };
    const auto overlapping = [](std::span<const Variable> v) {
      return concat({slice_rows(v[0], 0, 2), slice_rows(v[0], 1, 3)});
    };
    return {{"inner rows", {random_normal({5, 3}, 1)}, with(1, 3)},
            {"all rows", {random_normal({3, 2}, 1)}, with(0, 3)},
            {"no rows", {random_normal({3, 2}, 1)}, with(2, 2)},
            {"rank 1", {random_normal({4}, 1)}, with(1, 4)},
            {"rank 3", {random_normal({3, 2, 2}, 1)}, with(2, 3)},
            {"overlapping slices", {random_normal({3, 2}, 1)}, overlapping}};
  }
};

}  // namespace

Variable concat(const std::vector<Variable>& parts) {
  require(!parts.empty(), Concat::name, "needs at least one part");
  std::vector<std::int64_t> widths;
  for (const Variable& part : parts) widths.push_back(part.shape().width());
  return apply_op(Concat{std::move(widths)}, parts);
}

Variable slice_columns(const Variable& x, std::int64_t begin, std::int64_t end) {
  return apply_op(SliceColumns{begin, end, x.shape()}, {x});
}

std::vector<Variable> split_columns(const Variable& x, const std::vector<std::int64_t>& widths) {
  std::vector<Variable> parts;
  std::int64_t column = 0;
  for (const std::int64_t width : widths) {
    parts.push_back(slice_columns(x, column, column + width));
    column += width;
  }
  require(column == x.shape().width(), "split_columns", "the widths add up to {}, but x is {}",
          column, x.value().describe());
  return parts;
}

Variable slice_rows(const Variable& x, std::int64_t begin, std::int64_t end) {
  return apply_op(SliceRows{begin, end, x.shape()}, {x});
}

}  // namespace cmir::ops
