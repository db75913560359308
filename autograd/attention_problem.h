// The problems of ops::attention as its kernels take them.
#pragma once

#include <algorithm>
#include <cmath>
#include <string_view>
#include <type_traits>
#include <vector>

#include "autograd/attention.h"
#include "kernels/attention/attention.h"

namespace cmir::ops::attention_detail {

inline constexpr std::string_view kName = "attention";

/// Where each sample's rows lie in x, for kernels. `bounds`: packed offsets, or begins and ends.
struct Rows {
  Tensor on_device;  ///< what the pointers point into
  const std::int64_t* begins;
  const std::int64_t* ends;
  std::int64_t samples, longest;
  bool padded;  ///< some rows may be of no sample

  Rows(const Tensor& bounds, const Tensor& x);

 private:
  void check_padded(const Tensor& bounds, std::int64_t rows);
};

/// The tensors of one problem. Query, key and value are in one, two or three `projections`; `bias`
/// may be undefined.
struct Problem {
  std::vector<Tensor> projections;
  Tensor bias, query_bounds, key_bounds;

  const Tensor& query() const { return projections.front(); }
  const Tensor& key() const { return projections[projections.size() > 1 ? 1 : 0]; }
  std::int64_t width() const { return query().size(1) / (projections.size() == 1 ? 3 : 1); }

  /// Of query (0), key (1) or value (2) in its projection.
  template <class T, class Tensors>
  static auto* first_element(Tensors& tensors, std::int64_t part, std::int64_t width) {
    const auto tensor = std::min<std::int64_t>(part, std::ssize(tensors) - 1);
    if constexpr (std::is_const_v<Tensors>) {
      return tensors[tensor].template data<T>() + (part - tensor) * width;
    } else {
      return tensors[tensor].template mutable_data<T>() + (part - tensor) * width;
    }
  }

  /// Error unless the projections go together, and divide into heads.
  void check(std::int64_t heads) const;
};

/// What the kernels are told of a problem. `bias` and the projections may have been rounded.
template <class T>
kernels::AttentionProblem<T> kernel_problem(const Problem& tensors, const Rows& queries,
                                            const Rows& keys, std::int64_t heads,
                                            const AttentionOptions& options) {
  const std::int64_t width = tensors.width(), head_width = width / heads;
  const double scale =
      options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(head_width));
  const auto stride = [&](std::int64_t part) {
    return tensors.projections[std::min<std::int64_t>(part, std::ssize(tensors.projections) - 1)]
        .size(1);
  };
  kernels::AttentionProblem<T> p{.query = Problem::first_element<T>(tensors.projections, 0, width),
                                 .key = Problem::first_element<T>(tensors.projections, 1, width),
                                 .value = Problem::first_element<T>(tensors.projections, 2, width),
                                 .query_stride = stride(0),
                                 .key_stride = stride(1),
                                 .value_stride = stride(2),
                                 .query_begins = queries.begins,
                                 .query_ends = queries.ends,
                                 .key_begins = keys.begins,
                                 .key_ends = keys.ends,
                                 .samples = queries.samples,
                                 .heads = heads,
                                 .head_width = head_width,
                                 .most_queries = queries.longest,
                                 .most_keys = keys.longest,
                                 .scale = static_cast<SumOf<T>>(scale),
                                 .causal = options.causal,
                                 .dropout = static_cast<float>(options.dropout),
                                 .stream = options.stream,
                                 .query_rows = tensors.query().size(0),
                                 .key_rows = tensors.key().size(0)};
  if (tensors.bias.defined()) {
    p.bias = tensors.bias.data<SumOf<T>>();
    p.bias_queries = tensors.bias.size(1);
    p.bias_keys = tensors.bias.size(2);
  }
  return p;
}

}  // namespace cmir::ops::attention_detail
