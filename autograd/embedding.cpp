#include "autograd/embedding.h"

#include "autograd/gradcheck.h"
#include "kernels/embedding/embedding.h"

namespace cmir::ops {
namespace {

struct Embedding {
  static constexpr std::string_view name = "embedding";
  Tensor indices;  // an attribute, not an input: it has no gradient, and must not change before
                   // backward
  Shape table_shape;

  std::int64_t width() const { return table_shape.with_leading(1).numel(); }

  Tensor forward(OpContext&, std::span<const Tensor> inputs) const {
    const Tensor& table = inputs[0];
    check_indices(indices, table.size(0));
    Tensor y =
        Tensor::empty(table_shape.with_leading(indices.numel()), table.dtype(), table.device());
    dispatch_float(table.dtype(), name, [&]<class T>() {
      const Tensor on_device = indices.on(table.device());
      kernels::run(table.device(),
                   kernels::EmbeddingForward<T>{table.data<T>(), on_device.data<std::int32_t>(),
                                                y.mutable_data<T>(), indices.numel(), width()});
    });
    return y;
  }

  Gradients backward(const OpContext&, const Tensor& dy) const {
    Tensor dtable = Tensor::zeros(table_shape, dy.dtype(), dy.device());
    dispatch_float(dy.dtype(), name, [&]<class T>() {
      const Tensor on_device = indices.on(dy.device());
      Tensor workspace =
          Tensor::empty({dy.device().is_cpu() ? 0 : 2 * indices.numel()}, DType::i64, dy.device());
      kernels::run(dy.device(),
                   kernels::EmbeddingBackward<T>{dy.data<T>(), on_device.data<std::int32_t>(),
                                                 dtable.mutable_data<T>(), indices.numel(), width(),
                                                 workspace.mutable_data<std::int64_t>()});
    });
    return {dtable};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](std::vector<std::int32_t> indices) {
      const Tensor tensor = Tensor::from(indices, {static_cast<std::int64_t>(indices.size())});
      return [tensor](std::span<const Variable> v) { return embedding(v[0], tensor); };
    };
    return {{"repeated and unused rows", {random_normal({5, 3}, 1)}, with({4, 0, 4, 2, 4})},
            {"one row", {random_normal({1, 9}, 1)}, with({0})},
            {"no indices", {random_normal({3, 2}, 1)}, with({})},
            {"rows of rank 2", {random_normal({3, 2, 4}, 1)}, with({2, 2, 1})},
            {"numbers", {random_normal({3}, 1)}, with({2, 0})}};
  }
};

}  // namespace

void check_indices(const Tensor& indices, std::int64_t rows) {
  const auto index = indices.span<std::int32_t>();
  for (std::size_t i = 0; i < index.size(); ++i) {
    require(index[i] >= 0 && index[i] < rows, Embedding::name,
            "index {} at position {} is outside the table of {} rows; valid indices are 0 .. {}",
            index[i], i, rows, rows - 1);
  }
}

Variable embedding(const Variable& table, const Tensor& indices) {
  require(table.shape().rank() >= 1 && indices.rank() == 1 && indices.dtype() == DType::i32,
          Embedding::name,
          "table {} needs at least one dimension and indices {} must be i32 [rows]",
          table.value().describe(), indices.describe());
  return apply_op(Embedding{indices, table.shape()}, {table});
}

}  // namespace cmir::ops
