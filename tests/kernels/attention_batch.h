// Batches for attention's tests, and what plain loops in f64 make of them.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/attention/attention.h"
#include "tests/kernels/kernel_test.h"
#include "tests/kernels/packed_test.h"

namespace cmir::kernels::testing {

using Lengths = std::vector<std::int64_t>;
using Offsets = Shared<std::int64_t>;

struct Case {
  Lengths queries, keys;
  std::int64_t heads, width;
  bool causal = false;
  float dropout = 0;
  double scale = 0.3;
  bool bias = false;  ///< one for 2 queries and 3 keys more than the longest sample has
};

template <class T>
struct Batch;
/// All in one call.
template <class T>
void run_group(const std::vector<Batch<T>*>& batches, bool with_forward = true,
               bool with_backward = true);

/// A batch with buffers of its own; with `gap` extra elements between rows, as when query, key,
/// value share a projection.
template <class T>
struct Batch {
  using Sum = SumOf<T>;
  Offsets query_offsets, key_offsets;
  std::int64_t total, query_stride, key_stride, bias_size = 0;
  Guarded<T> query, key, value, doutput;
  Guarded<Sum> output, log_sum_exp, dquery, dkey, dvalue, bias, dbias;
  AttentionProblem<T> problem;

  explicit Batch(const Case& c, std::int64_t gap = 0)
      : query_offsets(offsets_of(c.queries)),
        key_offsets(offsets_of(c.keys)),
        total(c.heads * c.width),
        query_stride(total + gap),
        key_stride(total + 2 * gap),
        bias_size(c.bias ? c.heads * (longest(c.queries) + 2) * (longest(c.keys) + 3) : 0),
        query(normals(query_offsets.back() * query_stride, 1)),
        key(normals(key_offsets.back() * key_stride, 2)),
        value(normals(key_offsets.back() * key_stride, 3)),
        doutput(normals(query_offsets.back() * total, 4)),
        output(query_offsets.back() * total),
        log_sum_exp(query_offsets.back() * c.heads),
        dquery(query_offsets.back() * query_stride),
        dkey(key_offsets.back() * key_stride),
        dvalue(key_offsets.back() * key_stride),
        bias(normals(bias_size, 5)),
        dbias(bias_size) {
    problem = {.query = query.data(),
               .key = key.data(),
               .value = value.data(),
               .query_stride = query_stride,
               .key_stride = key_stride,
               .value_stride = key_stride,
               .query_begins = query_offsets.data(),
               .query_ends = query_offsets.data() + 1,
               .key_begins = key_offsets.data(),
               .key_ends = key_offsets.data() + 1,
               .samples = static_cast<std::int64_t>(c.queries.size()),
               .heads = c.heads,
               .head_width = c.width,
               .most_queries = longest(c.queries),
               .most_keys = longest(c.keys),
               .scale = static_cast<Sum>(c.scale),
               .causal = c.causal,
               .dropout = c.dropout,
               .stream = {.seed = 7, .step = 2, .site = 3},
               .query_rows = query_offsets.back(),
               .key_rows = key_offsets.back()};
    if (!c.bias) return;
    problem.bias = bias.data();
    problem.bias_queries = problem.most_queries + 2;
    problem.bias_keys = problem.most_keys + 3;
  }
  static std::int64_t longest(const Lengths& lengths) {
    return lengths.empty() ? 0 : *std::ranges::max_element(lengths);
  }

  AttentionForwardItem<T> forward_item() { return {problem, output.data(), log_sum_exp.data()}; }
  AttentionBackwardItem<T> backward_item() {
    return {problem,
            output.data(),
            log_sum_exp.data(),
            doutput.data(),
            dquery.data(),
            dkey.data(),
            dvalue.data(),
            problem.bias != nullptr ? dbias.data() : nullptr};
  }
  void run_forward() { run_group<T>({this}, true, false); }
  void run_backward() { run_group<T>({this}, false, true); }
};

template <class T>
void run_group(const std::vector<Batch<T>*>& batches, bool with_forward, bool with_backward) {
  AttentionForward<T> forward{.count = static_cast<int>(batches.size())};
  AttentionBackward<T> backward{.count = forward.count};
  for (std::size_t i = 0; i < batches.size(); ++i) {
    forward.items[i] = batches[i]->forward_item();
    backward.items[i] = batches[i]->backward_item();
  }
  Guarded<SumOf<T>> workspace(
      std::max(attention_forward_workspace(forward), attention_backward_workspace(backward)));
  forward.workspace = backward.workspace = workspace.data();
  if (with_forward) run(test_device(), forward);
  if (with_backward) run(test_device(), backward);
}

/// All results as plain loops in f64 give them.
struct Expected {
  std::vector<double> output, log_sum_exp, dquery, dkey, dvalue, dbias;
};

/// Attention of head h of sample s written out: probabilities, then the derivative of every step.
template <class T>
void oracle(Batch<T>& b, std::int64_t s, std::int64_t h, Expected& e) {
  const AttentionProblem<T>& p = b.problem;
  const std::int64_t q0 = b.query_offsets[s], k0 = b.key_offsets[s];
  const std::int64_t queries = b.query_offsets[s + 1] - q0, keys = b.key_offsets[s + 1] - k0;
  const auto dot = [&](auto& x, std::int64_t i, auto& y, std::int64_t j) {
    double sum = 0;
    for (std::int64_t d = 0; d < p.head_width; ++d) sum += exact(x[i + d]) * exact(y[j + d]);
    return sum;
  };
  for (std::int64_t i = 0; i < queries; ++i) {
    const std::int64_t q = (q0 + i) * b.query_stride + h * p.head_width;
    const std::int64_t o = (q0 + i) * b.total + h * p.head_width;
    const std::int64_t bias = (h * p.bias_queries + i) * p.bias_keys;
    const auto k_at = [&](std::int64_t j) { return (k0 + j) * b.key_stride + h * p.head_width; };
    std::vector<double> probability(keys), mask(keys), dprobability(keys);
    double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      probability[j] = p.scale * dot(b.query, q, b.key, k_at(j));
      if (p.bias != nullptr) probability[j] += b.bias[bias + j];
      if (p.causal && j > i + keys - queries)
        probability[j] = -std::numeric_limits<double>::infinity();
      maximum = std::max(maximum, probability[j]);
    }
    for (std::int64_t j = 0; j < keys; ++j) {
      probability[j] = std::isinf(maximum) ? 0 : std::exp(probability[j] - maximum);
      sum += probability[j];
    }
    e.log_sum_exp[(q0 + i) * p.heads + h] = maximum + std::log(sum);
    double mean = 0;
    for (std::int64_t j = 0; j < keys; ++j) {
      if (sum > 0) probability[j] /= sum;
      const auto element = (static_cast<std::uint64_t>((q0 + i) * p.heads + h) << 24) +
                           static_cast<std::uint64_t>(j);
      mask[j] = p.stream.uniform(element) < p.dropout ? 0 : 1 / (1.0 - p.dropout);
      dprobability[j] = mask[j] * dot(b.doutput, o, b.value, k_at(j));
      mean += probability[j] * dprobability[j];
    }
    for (std::int64_t j = 0; j < keys; ++j) {
      const double dlogit = probability[j] * (dprobability[j] - mean);
      if (p.bias != nullptr) e.dbias[bias + j] += dlogit;
      for (std::int64_t d = 0; d < p.head_width; ++d) {
        e.output[o + d] += mask[j] * probability[j] * exact(b.value[k_at(j) + d]);
        e.dvalue[k_at(j) + d] += mask[j] * probability[j] * exact(b.doutput[o + d]);
        e.dquery[q + d] += p.scale * dlogit * exact(b.key[k_at(j) + d]);
        e.dkey[k_at(j) + d] += p.scale * dlogit * exact(b.query[q + d]);
      }
    }
  }
}

/// The elements between rows are nobody's: they must still hold the sentinel NaN.
inline std::vector<double> with_gaps(std::int64_t rows, std::int64_t width, std::int64_t stride) {
  std::vector<double> matrix(rows * stride, std::nan(""));
  for (std::int64_t r = 0; r < rows; ++r) std::fill_n(matrix.begin() + r * stride, width, 0.0);
  return matrix;
}

template <class T>
Expected oracle(Batch<T>& b) {
  const std::int64_t rows = b.query_offsets.back(), key_rows = b.key_offsets.back();
  Expected e{.output = std::vector<double>(rows * b.total),
             .log_sum_exp = std::vector<double>(rows * b.problem.heads),
             .dquery = with_gaps(rows, b.total, b.query_stride),
             .dkey = with_gaps(key_rows, b.total, b.key_stride),
             .dvalue = with_gaps(key_rows, b.total, b.key_stride),
             .dbias = std::vector<double>(b.bias_size)};
  for (std::int64_t s = 0; s < b.problem.samples; ++s) {
    for (std::int64_t h = 0; h < b.problem.heads; ++h) oracle(b, s, h, e);
  }
  return e;
}

}  // namespace cmir::kernels::testing
