#include "autograd/positions.h"

#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <tuple>

#include "autograd/gradcheck.h"
#include "autograd/sequences.h"
#include "kernels/elementwise/axpy.h"
#include "kernels/positions/positions.h"

namespace cmir::ops {
namespace {

/// Sinusoids of at least `positions` rows: the next power of two, one table of each length, width
/// and dtype. None is ever freed, since a recorded graph may read its copy on the device.
Tensor cached_sinusoids(std::int64_t positions, std::int64_t width, DType dtype) {
  static std::mutex mutex;
  static std::map<std::tuple<std::int64_t, std::int64_t, DType>, Tensor> tables;
  const auto length =
      static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(positions)));
  std::lock_guard lock(mutex);
  Tensor& table = tables[{length, width, dtype}];
  if (!table.defined()) table = sinusoids(length, width, dtype);
  return table;
}

struct AddPositions {
  static constexpr std::string_view name = "add_positions";
  Tensor offsets;
  double scale;

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &x = inputs[0], &learned = inputs[1];
    require(x.rank() == 2, name, "needs x [rows, width], got {}", x.describe());
    const Sequences sequences = check_sequences(name, offsets, x);
    if (learned.defined()) {
      require(learned.rank() == 2 && learned.size(1) == x.size(1) && learned.dtype() == x.dtype(),
              name, "x {} needs a table [positions, {}] of its dtype, got {}", x.describe(),
              x.size(1), learned.describe());
      require(sequences.longest <= learned.size(0), name,
              "a sample has {} rows, but the table {} has only {} positions; use a longer table or "
              "cut the sample",
              sequences.longest, learned.describe(), learned.size(0));
    }
    Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
    dispatch_float(x.dtype(), name, [&]<class T>() {
      const Tensor table =
          learned.defined()
              ? learned
              : cached_sinusoids(sequences.longest, x.size(1), x.dtype()).on(x.device());
      kernels::run(x.device(),
                   kernels::AddPositions<T>{x.data<T>(), sequences.offsets, table.data<T>(),
                                            static_cast<T>(scale), y.mutable_data<T>(),
                                            sequences.samples, x.size(1)},
                   x.size(0));
    });
    if (context.recording()) {
      context.save(offsets);
      context.save(learned);
    }
    return y;
  }

  Gradients backward(const OpContext& context, const Tensor& dy) const {
    const Tensor &bounds = context.saved(0), &table = context.saved(1);
    Gradients gradients(2);
    dispatch_float(dy.dtype(), name, [&]<class T>() {
      if (context.needs_gradient(0) && scale == 1.0) {
        gradients[0] = dy;
      } else if (context.needs_gradient(0)) {
        gradients[0] = Tensor::empty(dy.shape(), dy.dtype(), dy.device());
        kernels::run(dy.device(), kernels::Scale<T>{static_cast<T>(scale), dy.data<T>(),
                                                    gradients[0].mutable_data<T>(), dy.numel()});
      }
      if (context.needs_gradient(1)) {
        gradients[1] = Tensor::empty(table.shape(), dy.dtype(), dy.device());
        const Tensor on_device = bounds.on(dy.device());
        kernels::run(
            dy.device(),
            kernels::PositionsBackwardTable<T>{dy.data<T>(), on_device.data<std::int64_t>(),
                                               gradients[1].mutable_data<T>(), bounds.numel() - 1,
                                               table.size(0), dy.size(1)},
            dy.size(0));
      }
    });
    return gradients;
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](std::vector<std::int64_t> bounds, double factor) {
      return [offsets = Tensor::from(bounds, {static_cast<std::int64_t>(bounds.size())}),
              factor](std::span<const Variable> v) {
        return add_positions(v[0], offsets, v.size() > 1 ? v[1] : Variable(), factor);
      };
    };
    return {{"sinusoids, samples of 3, 0, 1, 2 rows",
             {random_normal({6, 5}, 1)},
             with({0, 3, 3, 4, 6}, 2.5)},
            {"learned",
             {random_normal({6, 3}, 1), random_normal({4, 3}, 2)},
             with({0, 3, 3, 4, 6}, 1.0)},
            {"learned, two chunks",
             {random_normal({12, 1}, 1), random_normal({11, 1}, 2)},
             with({0, 11, 12}, -0.5)},
            {"no rows", {random_normal({0, 3}, 1), random_normal({2, 3}, 2)}, with({0, 0}, 2.0)}};
  }
};

}  // namespace

Variable add_positions(const Variable& x, const Tensor& offsets, const Variable& table,
                       double scale) {
  return apply_op(AddPositions{offsets, scale}, {x, table});
}

Tensor sinusoids(std::int64_t positions, std::int64_t width, DType dtype) {
  Tensor table = Tensor::empty({positions, width}, DType::f64);
  double* element = table.mutable_span<double>().data();
  for (std::int64_t p = 0; p < positions; ++p) {
    for (std::int64_t j = 0; j < width; ++j) {
      const double angle =
          static_cast<double>(p) *
          std::pow(10000.0, -static_cast<double>(j / 2 * 2) / static_cast<double>(width));
      *element++ = j % 2 == 0 ? std::sin(angle) : std::cos(angle);
    }
  }
  return table.to(dtype);
}

}  // namespace cmir::ops
