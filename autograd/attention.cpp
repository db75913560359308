#include "autograd/attention.h"

#include <cmath>

#include "autograd/gradcheck.h"
#include "autograd/sequences.h"
#include "kernels/attention/attention.h"

namespace cmir::ops {
namespace {

constexpr std::int64_t kMostKeys = std::int64_t{1} << 24;  // the dropout counter's room for a key

/// Everything of the problem but its three pointers and strides.
template <class T>
kernels::AttentionProblem<T> problem_of(std::string_view op, const Sequences& queries,
                                        const Sequences& keys, std::int64_t width,
                                        std::int64_t heads, const AttentionOptions& options) {
  require(heads >= 1 && width >= 1 && width % heads == 0, op,
          "width {} does not divide into {} heads", width, heads);
  require(queries.samples == keys.samples, op, "query_offsets hold {} samples, key_offsets {}",
          queries.samples, keys.samples);
  require(options.dropout >= 0 && options.dropout < 1, op, "dropout must be in [0, 1), got {}",
          options.dropout);
  require(std::isfinite(options.scale) && options.scale >= 0, op,
          "scale must be positive, or 0 for its default; got {}", options.scale);
  require(options.dropout == 0 || keys.longest <= kMostKeys, op,
          "dropout numbers at most {} keys, a sample has {}", kMostKeys, keys.longest);
  const std::int64_t head_width = width / heads;
  const double scale =
      options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(head_width));
  kernels::AttentionProblem<T> p{};
  p.query_offsets = queries.offsets;
  p.key_offsets = keys.offsets;
  p.samples = queries.samples;
  p.heads = heads;
  p.head_width = head_width;
  p.most_queries = queries.longest;
  p.most_keys = keys.longest;
  p.scale = static_cast<T>(scale);
  p.causal = options.causal;
  p.dropout = static_cast<float>(options.dropout);
  p.stream = options.stream;
  return p;
}

/// Runs forward and, when recording, saves output and log-sum-exp at the end of what is saved.
template <class T>
Tensor run_forward(OpContext& context, const kernels::AttentionProblem<T>& p, std::int64_t rows,
                   Device device) {
  Tensor output = Tensor::empty({rows, p.width()}, dtype_of<T>, device);
  Tensor log_sum_exp = Tensor::empty({rows, p.heads}, dtype_of<T>, device);
  Tensor workspace = Tensor::empty({kernels::attention_forward_workspace(p)}, dtype_of<T>, device);
  kernels::run(output.device(), kernels::AttentionForward<T>{p, output.mutable_data<T>(),
                                                             log_sum_exp.mutable_data<T>(),
                                                             workspace.mutable_data<T>()});
  if (context.recording()) {
    context.save(output);
    context.save(log_sum_exp);
  }
  return output;
}

template <class T>
void run_backward(const kernels::AttentionProblem<T>& p, const Tensor& output,
                  const Tensor& log_sum_exp, const Tensor& doutput, T* dquery, T* dkey, T* dvalue) {
  Tensor workspace =
      Tensor::empty({kernels::attention_backward_workspace(p)}, dtype_of<T>, output.device());
  kernels::run(output.device(), kernels::AttentionBackward<T>{
                                    p, output.data<T>(), log_sum_exp.data<T>(), doutput.data<T>(),
                                    dquery, dkey, dvalue, workspace.mutable_data<T>()});
}

struct Attention {
  static constexpr std::string_view name = "attention";
  Tensor query_offsets, key_offsets;
  std::int64_t heads;
  AttentionOptions options;

  template <class T>
  kernels::AttentionProblem<T> problem(const Tensor& query, const Tensor& key, const Tensor& value,
                                       const Tensor& query_bounds, const Tensor& key_bounds) const {
    auto p = problem_of<T>(name, check_sequences(name, query_bounds, query),
                           check_sequences(name, key_bounds, key), query.size(1), heads, options);
    p.query = query.data<T>();
    p.key = key.data<T>();
    p.value = value.data<T>();
    p.query_stride = p.key_stride = p.value_stride = query.size(1);
    return p;
  }

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor &query = inputs[0], &key = inputs[1], &value = inputs[2];
    require(query.rank() == 2 && key.rank() == 2 && key.size(1) == query.size(1) &&
                key.shape() == value.shape() && key.dtype() == query.dtype() &&
                value.dtype() == query.dtype(),
            name,
            "needs query [query rows, width], key and value [key rows, width] of one dtype, got "
            "{}, {}, {}",
            query.describe(), key.describe(), value.describe());
    if (context.recording()) {
      for (const Tensor& tensor : {query, key, value, query_offsets, key_offsets})
        context.save(tensor);
    }
    return dispatch_float(query.dtype(), name, [&]<class T>() {
      return run_forward(context, problem<T>(query, key, value, query_offsets, key_offsets),
                         query.size(0), query.device());
    });
  }

  Gradients backward(const OpContext& context, const Tensor& doutput) const {
    const Tensor &query = context.saved(0), &key = context.saved(1), &value = context.saved(2);
    Tensor dquery = Tensor::empty(query.shape(), query.dtype(), query.device());
    Tensor dkey = Tensor::empty(key.shape(), key.dtype(), key.device());
    Tensor dvalue = Tensor::empty(key.shape(), key.dtype(), key.device());
    dispatch_float(query.dtype(), name, [&]<class T>() {
      run_backward(problem<T>(query, key, value, context.saved(3), context.saved(4)),
                   context.saved(5), context.saved(6), doutput, dquery.mutable_data<T>(),
                   dkey.mutable_data<T>(), dvalue.mutable_data<T>());
    });
    return {dquery, dkey, dvalue};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](std::vector<std::int64_t> queries, std::vector<std::int64_t> keys,
                         std::int64_t count, AttentionOptions attributes) {
      return [q = Tensor::from(queries, {static_cast<std::int64_t>(queries.size())}),
              k = Tensor::from(keys, {static_cast<std::int64_t>(keys.size())}), count,
              attributes](std::span<const Variable> v) {
        return attention(v[0], v[v.size() > 1 ? 1 : 0], v[v.size() > 1 ? 2 : 0], q, k, count,
                         attributes);
      };
    };
    const auto inputs = [](std::int64_t queries, std::int64_t keys, std::int64_t width) {
      return std::vector<Tensor>{random_normal({queries, width}, 1),
                                 random_normal({keys, width}, 2), random_normal({keys, width}, 3)};
    };
    return {
        {"3, 0, 1, 2 queries, 2, 1, 0, 4 keys", inputs(6, 7, 4),
         with({0, 3, 3, 4, 6}, {0, 2, 3, 3, 7}, 2, {})},
        {"causal, more keys than queries", inputs(3, 5, 3),
         with({0, 3}, {0, 5}, 1, {.causal = true})},
        {"causal, more queries than keys", inputs(5, 3, 3),
         with({0, 5}, {0, 3}, 3, {.causal = true})},
        {"dropout", inputs(4, 6, 4),
         with({0, 1, 4}, {0, 1, 6}, 2, {.scale = 0.3, .dropout = 0.4, .stream = {.seed = 5}})},
        {"logits in the hundreds", inputs(2, 3, 2), with({0, 2}, {0, 3}, 1, {.scale = 100}), 1e-4},
        {"one row", inputs(1, 1, 5), with({0, 1}, {0, 1}, 1, {})},
        {"one input as query, key and value",
         {random_normal({5, 4}, 1)},
         with({0, 2, 5}, {0, 2, 5}, 2, {})},
        {"two tiles of queries", inputs(98, 2, 1), with({0, 98}, {0, 2}, 1, {})}};
  }
};

struct SelfAttention {
  static constexpr std::string_view name = "self_attention";
  Tensor offsets;
  std::int64_t heads;
  AttentionOptions options;

  template <class T>
  kernels::AttentionProblem<T> problem(const Tensor& qkv, const Tensor& bounds) const {
    const Sequences sequences = check_sequences(name, bounds, qkv);
    const std::int64_t width = qkv.size(1) / 3;
    auto p = problem_of<T>(name, sequences, sequences, width, heads, options);
    p.query = qkv.data<T>();
    p.key = p.query + width;
    p.value = p.key + width;
    p.query_stride = p.key_stride = p.value_stride = qkv.size(1);
    return p;
  }

  Tensor forward(OpContext& context, std::span<const Tensor> inputs) const {
    const Tensor& qkv = inputs[0];
    require(qkv.rank() == 2 && qkv.size(1) % 3 == 0, name, "needs qkv [rows, 3 width], got {}",
            qkv.describe());
    if (context.recording()) {
      context.save(qkv);
      context.save(offsets);
    }
    return dispatch_float(qkv.dtype(), name, [&]<class T>() {
      return run_forward(context, problem<T>(qkv, offsets), qkv.size(0), qkv.device());
    });
  }

  Gradients backward(const OpContext& context, const Tensor& doutput) const {
    const Tensor& qkv = context.saved(0);
    Tensor dqkv = Tensor::empty(qkv.shape(), qkv.dtype(), qkv.device());
    dispatch_float(qkv.dtype(), name, [&]<class T>() {
      const auto p = problem<T>(qkv, context.saved(1));
      T* dquery = dqkv.mutable_data<T>();
      run_backward(p, context.saved(2), context.saved(3), doutput, dquery, dquery + p.width(),
                   dquery + 2 * p.width());
    });
    return {dqkv};
  }

  static std::vector<GradientCase> gradient_cases() {
    const auto with = [](std::vector<std::int64_t> bounds, std::int64_t count,
                         AttentionOptions attributes) {
      return [offsets = Tensor::from(bounds, {static_cast<std::int64_t>(bounds.size())}), count,
              attributes](std::span<const Variable> v) {
        return self_attention(v[0], offsets, count, attributes);
      };
    };
    return {
        {"samples of 3, 0, 1, 2 rows", {random_normal({6, 12}, 1)}, with({0, 3, 3, 4, 6}, 2, {})},
        {"causal with dropout",
         {random_normal({5, 9}, 1)},
         with({0, 5}, 3, {.causal = true, .dropout = 0.3, .stream = {.seed = 3}})},
        {"no rows", {random_normal({0, 6}, 1)}, with({0, 0}, 1, {})}};
  }
};

}  // namespace

Variable attention(const Variable& query, const Variable& key, const Variable& value,
                   const Tensor& query_offsets, const Tensor& key_offsets, std::int64_t heads,
                   const AttentionOptions& options) {
  return apply_op(Attention{query_offsets, key_offsets, heads, options}, {query, key, value});
}

Variable self_attention(const Variable& qkv, const Tensor& offsets, std::int64_t heads,
                        const AttentionOptions& options) {
  return apply_op(SelfAttention{offsets, heads, options}, {qkv});
}

}  // namespace cmir::ops
