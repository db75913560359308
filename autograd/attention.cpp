#include "autograd/attention.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "autograd/attention_problem.h"
#include "autograd/elementwise.h"
#include "autograd/gradcheck.h"
#include "autograd/precision.h"
#include "autograd/rows.h"

namespace cmir::ops {
namespace {

using namespace attention_detail;

constexpr std::int64_t kMostKeys = std::int64_t{1} << 24;  // the dropout counter's room for a key

void check_options(const AttentionOptions& options) {
  require(options.dropout >= 0 && options.dropout < 1, kName, "dropout must be in [0, 1), got {}",
          options.dropout);
  require(std::isfinite(options.scale) && options.scale >= 0, kName,
          "scale must be positive, or 0 for its default; got {}", options.scale);
}

/// Calls f(first, last) for as many of `count` problems at a time as a kernel takes.
template <class F>
void for_each_call(std::int64_t count, F&& f) {
  for (std::int64_t first = 0; first < count; first += kernels::kAttentionProblems)
    f(first, std::min<std::int64_t>(count, first + kernels::kAttentionProblems));
}

template <class Args>
Tensor workspace_of(std::int64_t elements, Args& args, Device device) {
  using Sum = std::remove_pointer_t<decltype(args.workspace)>;
  Tensor workspace = Tensor::empty({elements}, dtype_of<Sum>, device);
  args.workspace = workspace.mutable_data<Sum>();
  return workspace;
}

Tensor rows_by(bool padded, const Shape& shape, DType dtype, Device device) {
  return padded ? Tensor::zeros(shape, dtype, device) : Tensor::empty(shape, dtype, device);
}

/// All problems of a group. An op has one output, so the tape sees a value without elements, of
/// which each problem's output is made by an AttentionOutput. That op's backward leaves its
/// gradient here; this one's, which comes after theirs, runs them together.
struct Attention {
  static constexpr std::string_view name = kName;
  struct Attributes {
    Parts parts;
    AttentionOptions options;  ///< without the bias
    bool has_bias;
  };
  std::vector<Attributes> problems;
  /// The first of the inputs, before the biases; no two problems share columns of one.
  std::size_t projections;
  std::int64_t heads;
  std::shared_ptr<std::vector<Tensor>> doutputs;
  Precision precision = current_precision();

  Problem saved_problem(const OpContext& context, std::size_t i, std::size_t& at) const {
    Problem tensors{problems[i].parts};
    for (int part = 0; part < 3; ++part)
      tensors.projections[part] = context.saved(tensors.parts.projections[part]);
    tensors.bias = context.saved(at++);
    tensors.query_bounds = context.saved(at++);
    tensors.key_bounds = context.saved(at++);
    return tensors;
  }

  std::vector<Tensor> forward(OpContext& context, std::span<const Variable> inputs,
                              std::vector<Problem>& tensors) const {
    std::vector<Tensor> outputs, log_sum_exps, factors;
    for (const Variable& x : inputs.first(projections))
      factors.push_back(as_factor(name, x.value(), precision));
    for (Problem& problem : tensors) {
      for (int part = 0; part < 3; ++part)
        problem.projections[part] = factors[problem.parts.projections[part]];
    }
    dispatch_factor(tensors.front().query().dtype(), name, [&]<class T>() {
      for_each_call(std::ssize(tensors), [&](std::int64_t first, std::int64_t last) {
        run_forward<T>({tensors.data() + first, tensors.data() + last}, first, outputs,
                       log_sum_exps);
      });
    });
    if (!context.recording()) return outputs;
    for (const Tensor& x : factors) context.save(x);
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      for (const Tensor& x : {tensors[i].bias, tensors[i].query_bounds, tensors[i].key_bounds,
                              outputs[i], log_sum_exps[i]})
        context.save(x);
    }
    return outputs;
  }

  template <class T>
  void run_forward(std::span<const Problem> tensors, std::int64_t first,
                   std::vector<Tensor>& outputs, std::vector<Tensor>& log_sum_exps) const {
    using Sum = SumOf<T>;
    kernels::AttentionForward<T> args{.count = static_cast<int>(tensors.size()),
                                      .tf32 = precision == Precision::tf32};
    std::vector<Rows> rows;  // holds what the kernel reads
    kernels::AttentionWork cost;
    const Device device = tensors.front().query().device();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const Problem& problem = tensors[i];
      const Rows queries(problem.query_bounds, problem.query()),
          keys(problem.key_bounds, problem.key());
      const AttentionOptions& options = problems[static_cast<std::size_t>(first) + i].options;
      check_lengths(queries, keys, problem.bias, options);
      const std::int64_t count = problem.query().size(0);
      outputs.push_back(
          rows_by(queries.padded, {count, problem.parts.width}, dtype_of<Sum>, device));
      log_sum_exps.push_back(Tensor::empty({count, heads}, dtype_of<Sum>, device));
      args.items[i] = {kernel_problem<T>(problem, queries, keys, heads, options),
                       outputs.back().mutable_data<Sum>(), log_sum_exps.back().mutable_data<Sum>()};
      rows.insert(rows.end(), {queries, keys});
      add_work(cost, problem);
    }
    const Tensor workspace = workspace_of(kernels::attention_forward_workspace(args), args, device);
    kernels::run(device, args, cost);
  }

  void check_lengths(const Rows& queries, const Rows& keys, const Tensor& bias,
                     const AttentionOptions& options) const {
    require(queries.samples == keys.samples, name, "query_offsets hold {} samples, key_offsets {}",
            queries.samples, keys.samples);
    require(options.dropout == 0 || keys.longest <= kMostKeys, name,
            "dropout numbers at most {} keys, a sample has {}", kMostKeys, keys.longest);
    if (!bias.defined()) return;
    require(bias.rank() == 3 && bias.size(0) == heads && bias.size(1) >= queries.longest &&
                bias.size(2) >= keys.longest,
            name, "needs a bias [{} heads, {} queries or more, {} keys or more], got {}", heads,
            queries.longest, keys.longest, bias.describe());
  }

  Gradients backward(const OpContext& context, const Tensor&) const {
    Gradients gradients(projections);
    std::vector<Work> works;
    std::size_t at = projections;
    for (std::size_t i = 0; i < problems.size(); ++i) {
      Work work{i, saved_problem(context, i, at)};
      work.output = context.saved(at++);
      work.log_sum_exp = context.saved(at++);
      work.doutput = std::exchange((*doutputs)[i], Tensor());
      if (problems[i].has_bias) {
        work.bias = gradients.size();
        gradients.emplace_back();
        work.wants_dbias = context.needs_gradient(work.bias);
      }
      if (!work.doutput.defined()) continue;  // this output was not used
      work.doutput = as_factor(name, work.doutput, precision);
      works.push_back(std::move(work));
    }
    dispatch_factor(works.front().tensors.query().dtype(), name, [&]<class T>() {
      make_gradients<SumOf<T>>(works, gradients);
      for_each_call(std::ssize(works), [&](std::int64_t first, std::int64_t last) {
        run_backward<T>({works.data() + first, works.data() + last}, gradients);
      });
    });
    return gradients;
  }

  /// One problem's backward.
  struct Work {
    std::size_t problem;
    Problem tensors;
    Tensor output = {}, log_sum_exp = {}, doutput = {};
    std::size_t bias = 0;  ///< among the op's inputs
    bool wants_dbias = false;
  };

  /// Those of the projections, with zeros where no problem writes.
  template <class Sum>
  void make_gradients(std::span<const Work> works, Gradients& gradients) const {
    for (std::size_t p = 0; p < projections; ++p) {
      Tensor x;
      std::int64_t columns = 0;  // that are written
      bool padded = false;
      for (const Work& work : works) {
        for (int part = 0; part < 3; ++part) {
          if (work.tensors.parts.projections[part] != p) continue;
          x = work.tensors.projections[part];
          columns += work.tensors.parts.width;
          padded = padded || work.tensors.padded();
        }
      }
      if (x.defined())
        gradients[p] = rows_by(padded || columns < x.size(1), x.shape(), dtype_of<Sum>, x.device());
    }
  }

  template <class T>
  void run_backward(std::span<const Work> works, Gradients& gradients) const {
    using Sum = SumOf<T>;
    kernels::AttentionBackward<T> args{.count = static_cast<int>(works.size()),
                                       .tf32 = precision == Precision::tf32};
    std::vector<Rows> rows;  // holds what the kernel reads
    kernels::AttentionWork cost;
    const Device device = works.front().output.device();
    for (std::size_t i = 0; i < works.size(); ++i) {
      const Work& work = works[i];
      const Problem& tensors = work.tensors;
      const Rows queries(tensors.query_bounds, tensors.query()),
          keys(tensors.key_bounds, tensors.key());
      const auto gradient = [&](int part) {
        return gradients[tensors.parts.projections[part]].mutable_data<Sum>() +
               tensors.parts.columns[part];
      };
      args.items[i] = {
          kernel_problem<T>(tensors, queries, keys, heads, problems[work.problem].options),
          work.output.data<Sum>(),
          work.log_sum_exp.data<Sum>(),
          work.doutput.data<T>(),
          gradient(0),
          gradient(1),
          gradient(2)};
      if (work.wants_dbias) {
        Tensor dbias = Tensor::empty(tensors.bias.shape(), dtype_of<Sum>, device);
        args.items[i].dbias = dbias.mutable_data<Sum>();
        gradients[work.bias] = dbias;
      }
      rows.insert(rows.end(), {queries, keys});
      add_work(cost, tensors);
    }
    const Tensor workspace =
        workspace_of(kernels::attention_backward_workspace(args), args, device);
    kernels::run(device, args, cost);
  }

  static std::vector<GradientCase> gradient_cases();
};

/// One problem's output.
struct AttentionOutput {
  static constexpr std::string_view name = "attention_output";
  std::shared_ptr<std::vector<Tensor>> doutputs;
  std::size_t problem;

  Gradients backward(const OpContext& context, const Tensor& doutput) const {
    require(!(*doutputs)[problem].defined(), name,
            "an earlier backward() over this graph broke off; run forward again");
    (*doutputs)[problem] = doutput;
    return {context.saved(0)};
  }
  static std::vector<GradientCase> gradient_cases();
};

/// The projections that the tape sees as the op's inputs. One of which several problems have
/// columns of their own is one input; where they share columns, each has it as an input of its own.
class Projections {
 public:
  /// The number of the input in which the columns [begin, begin + width) of x are now taken.
  std::size_t take(const Variable& x, std::int64_t begin, std::int64_t width) {
    const Range range{begin, begin + width};
    const auto free = [&](std::size_t i) {
      return inputs_[i].node() == x.node() && inputs_[i].value().raw() == x.value().raw() &&
             inputs_[i].shape() == x.shape() &&
             std::ranges::none_of(taken_[i], [&](const Range& other) {
               return range.first < other.second && other.first < range.second;
             });
    };
    std::size_t i = 0;
    while (i < inputs_.size() && !free(i)) ++i;
    if (i == inputs_.size()) {
      inputs_.push_back(x);
      taken_.emplace_back();
    }
    taken_[i].push_back(range);
    return i;
  }
  std::vector<Variable>& inputs() { return inputs_; }

 private:
  using Range = std::pair<std::int64_t, std::int64_t>;
  std::vector<Variable> inputs_;
  std::vector<std::vector<Range>> taken_;
};

void check_group(std::span<const AttentionInput> inputs, std::span<const Problem> tensors) {
  require(!inputs.empty(), kName, "needs at least one problem");
  const auto same_draws = [&](std::size_t i, std::size_t j) {
    const AttentionOptions &a = inputs[i].options, &b = inputs[j].options;
    return a.dropout > 0 && b.dropout > 0 && a.stream.seed == b.stream.seed &&
           a.stream.site == b.stream.site && a.stream.step == b.stream.step &&
           a.stream.counter == b.stream.counter;
  };
  for (std::size_t i = 1; i < tensors.size(); ++i) {
    require(tensors[i].parts.width == tensors[0].parts.width &&
                tensors[i].query().dtype() == tensors[0].query().dtype(),
            kName, "problem {} has queries {} of width {}, problem 0 {} of width {}", i,
            tensors[i].query().describe(), tensors[i].parts.width, tensors[0].query().describe(),
            tensors[0].parts.width);
    for (std::size_t j = 0; j < i; ++j)
      require(!same_draws(i, j), kName, "problems {} and {} have dropout of one random stream", j,
              i);
  }
}

Tensor int_tensor(const std::vector<std::int64_t>& values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}

std::vector<GradientCase> Attention::gradient_cases() {
  const auto with = [](const std::vector<std::int64_t>& queries,
                       const std::vector<std::int64_t>& keys, std::int64_t count,
                       AttentionOptions attributes) {
    return [q = int_tensor(queries), k = int_tensor(keys), count,
            attributes](std::span<const Variable> v) mutable {
      if (v.size() == 4) attributes.bias = v[3];
      return attention(v[0], v[v.size() > 1 ? 1 : 0], v[v.size() > 1 ? 2 : 0], q, k, count,
                       attributes);
    };
  };
  const auto inputs = [](std::int64_t queries, std::int64_t keys, std::int64_t width) {
    return std::vector<Tensor>{random_normal({queries, width}, 1), random_normal({keys, width}, 2),
                               random_normal({keys, width}, 3)};
  };
  const auto biased = [&](std::int64_t queries, std::int64_t keys, std::int64_t width,
                          const Shape& shape) {
    auto tensors = inputs(queries, keys, width);
    tensors.push_back(random_normal(shape, 4));
    return tensors;
  };
  const auto self = [](const std::vector<std::int64_t>& bounds, std::int64_t count,
                       AttentionOptions attributes) {
    return [offsets = int_tensor(bounds), count, attributes](std::span<const Variable> v) {
      return self_attention(v[0], offsets, count, attributes);
    };
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
      {"two tiles of queries", inputs(98, 2, 1), with({0, 98}, {0, 2}, 1, {})},
      {"bias, larger than the samples", biased(5, 6, 4, {2, 4, 5}),
       with({0, 3, 3, 5}, {0, 2, 4, 6}, 2, {})},
      {"bias, causal with dropout", biased(5, 7, 3, {1, 3, 4}),
       with({0, 3, 5}, {0, 4, 7}, 1, {.causal = true, .dropout = 0.3, .stream = {.seed = 8}})},
      {"qkv, samples of 3, 0, 1, 2 rows",
       {random_normal({6, 12}, 1)},
       self({0, 3, 3, 4, 6}, 2, {})},
      {"qkv, causal with dropout",
       {random_normal({5, 9}, 1)},
       self({0, 5}, 3, {.causal = true, .dropout = 0.3, .stream = {.seed = 3}})},
      {"no rows", {random_normal({0, 6}, 1)}, self({0, 0}, 1, {})}};
}

/// Nine problems, so two calls of the kernel: query with key and value side by side, padded rows, a
/// bias that two share, and an output that nobody uses.
std::vector<GradientCase> AttentionOutput::gradient_cases() {
  const auto pairs = [](std::span<const Variable> v) {
    const Tensor q = int_tensor({0, 2, 5}), k = int_tensor({0, 4, 6});
    const Tensor padded = padded_rows(int_tensor({1, 2}), 3);
    std::vector<AttentionInput> inputs;
    for (std::uint64_t i = 0; i < 3; ++i) {
      inputs.push_back({v[0], v[1], {}, q, k, {.bias = v[3]}});
      inputs.push_back({v[0], v[1], {}, q, k, {.dropout = 0.2, .stream = {.seed = i}}});
      inputs.push_back({v[2], {}, {}, padded, padded, {.causal = true}});
    }
    const auto outputs = attention_group(inputs, 2);
    Variable sum = add(outputs[0], multiply(outputs[1], outputs[3]));
    for (std::size_t i : {4, 6, 7}) sum = add(sum, outputs[i]);
    return concat({sum, slice_rows(add(outputs[2], outputs[8]), 0, 5)});
  };
  // Of v[0] the columns 0 to 2 serve nothing, 10 to 12 two problems.
  const auto columns = [](const Tensor& others) {
    return [others](std::span<const Variable> v) {
      const Tensor rows = int_tensor({0, 2, 5});
      const std::vector<AttentionInput> inputs = {
          {v[0], v[0], {}, rows, rows, {}, 2, 10, 2},
          {v[0], v[1], {}, rows, others, {.causal = true}, 2, 6, 0},
          {v[1], v[0], {}, others, rows, {}, 2, 4, 6},
          {v[0], v[1], {}, rows, others, {}, 2, 10, 0}};
      const auto outputs = attention_group(inputs, 1);
      const Variable sum = multiply(outputs[0], outputs[1]);
      return concat({add(sum, outputs[3]), slice_rows(outputs[2], 0, 5)});
    };
  };
  const std::vector<Tensor> products{random_normal({5, 12}, 1), random_normal({6, 6}, 2)};
  return {{"columns of products for several problems", products, columns(int_tensor({0, 4, 6}))},
          {"and padded rows", products, columns(padded_rows(int_tensor({2, 1}), 3))},
          {"nine problems",
           {random_normal({5, 4}, 1), random_normal({6, 8}, 2), random_normal({6, 12}, 3),
            random_normal({2, 3, 4}, 4)},
           pairs}};
}

}  // namespace

std::vector<Variable> attention_group(std::span<const AttentionInput> inputs, std::int64_t heads) {
  Attention op{{}, 0, heads, std::make_shared<std::vector<Tensor>>(inputs.size())};
  std::vector<Problem> tensors;
  Projections projections;
  for (const AttentionInput& input : inputs) {
    check_options(input.options);
    Parts& parts = tensors.emplace_back(problem_of(input, heads)).parts;
    for (int part = 0; part < 3; ++part) {
      parts.projections[part] =
          projections.take(variable_of(input, part), parts.columns[part], parts.width);
    }
    op.problems.push_back({parts, input.options, input.options.bias.defined()});
    op.problems.back().options.bias = {};
  }
  check_group(inputs, tensors);
  std::vector<Variable>& variables = projections.inputs();
  op.projections = variables.size();
  for (const AttentionInput& input : inputs)
    if (input.options.bias.defined()) variables.push_back(input.options.bias);
  std::vector<Tensor> values;
  for (const Variable& x : variables) values.push_back(x.value());
  check_one_device(kName, values);
  OpContext context = context_of(variables);
  const std::vector<Tensor> outputs = [&] {
    const Range range(kName);
    const TraceSpan span(TraceKind::op, kName.data());
    return op.forward(context, variables, tensors);
  }();
  const auto doutputs = op.doutputs;
  const Tensor nothing = Tensor::empty({0}, outputs[0].dtype(), outputs[0].device());
  const Variable group = record_op(std::move(op), std::move(context), nothing, variables);
  std::vector<Variable> results;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    OpContext of_output = context_of({&group, 1});
    if (of_output.recording()) of_output.save(nothing);
    results.push_back(
        record_op(AttentionOutput{doutputs, i}, std::move(of_output), outputs[i], {&group, 1}));
  }
  return results;
}

Variable attention(const Variable& query, const Variable& key, const Variable& value,
                   const Tensor& query_offsets, const Tensor& key_offsets, std::int64_t heads,
                   const AttentionOptions& options) {
  const AttentionInput input{query, key, value, query_offsets, key_offsets, options};
  return attention_group({&input, 1}, heads).front();
}

Variable self_attention(const Variable& qkv, const Tensor& offsets, std::int64_t heads,
                        const AttentionOptions& options) {
  const AttentionInput input{qkv, {}, {}, offsets, offsets, options};
  return attention_group({&input, 1}, heads).front();
}

Tensor padded_rows(const Tensor& lengths, std::int64_t longest) {
  using attention_detail::kName;
  require(lengths.defined() && lengths.dtype() == DType::i64 && lengths.rank() == 1, kName,
          "needs lengths i64[samples]");
  const auto count = lengths.span<std::int64_t>();
  const std::int64_t samples = lengths.numel();
  Tensor rows = Tensor::empty({2, samples}, DType::i64);
  const auto at = rows.mutable_span<std::int64_t>();
  for (std::int64_t s = 0; s < samples; ++s) {
    require(count[s] >= 0 && count[s] <= longest, kName, "sample {} has {} rows, padded to {}", s,
            count[s], longest);
    at[s] = s * longest;
    at[samples + s] = s * longest + count[s];
  }
  return rows;
}

}  // namespace cmir::ops
