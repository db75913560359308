// The problems of ops::attention as its kernels take them.
#pragma once

#include <cmath>
#include <string_view>

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

/// Where query (0), key (1) and value (2) of one problem are: in the columns [columns[part],
/// columns[part] + width) of one of the op's projections.
struct Parts {
  std::size_t projections[3] = {};
  std::int64_t columns[3] = {};
  std::int64_t width = 0;
};

/// The tensors of one problem: three projections, of which some may be the same. `bias` may be
/// undefined.
struct Problem {
  Parts parts;
  Tensor projections[3];
  Tensor bias, query_bounds, key_bounds;

  const Tensor& query() const { return projections[0]; }
  const Tensor& key() const { return projections[1]; }
  /// Some rows may be of no sample.
  bool padded() const { return query_bounds.rank() == 2 || key_bounds.rank() == 2; }
};

/// The variable that query (0), key (1) or value (2) is in.
const Variable& variable_of(const AttentionInput& input, int part);
/// With projections not yet numbered. Error unless the variables go together, and divide into
/// heads.
Problem problem_of(const AttentionInput& input, std::int64_t heads);

/// Adds what the cost of a problem depends on, once its bounds are checked.
void add_work(kernels::AttentionWork& work, const Problem& tensors);

/// What the kernels are told of a problem. `bias` and the projections may have been rounded.
template <class T>
kernels::AttentionProblem<T> kernel_problem(const Problem& tensors, const Rows& queries,
                                            const Rows& keys, std::int64_t heads,
                                            const AttentionOptions& options) {
  const std::int64_t head_width = tensors.parts.width / heads;
  const double scale =
      options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(head_width));
  const auto first = [&](int part) {
    return tensors.projections[part].data<T>() + tensors.parts.columns[part];
  };
  kernels::AttentionProblem<T> p{.query = first(0),
                                 .key = first(1),
                                 .value = first(2),
                                 .query_stride = tensors.projections[0].size(1),
                                 .key_stride = tensors.projections[1].size(1),
                                 .value_stride = tensors.projections[2].size(1),
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
