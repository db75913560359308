// Attention against plain loops, and against whole score matrices with two BLAS products per
// (sample, head). torch_attention.py times it beside PyTorch.
#include "kernels/attention/attention.h"

#include <algorithm>
#include <numeric>

#include "bench/harness.h"
#include "kernels/matrix/gemm.h"

namespace cmir::kernels {
namespace {

using namespace bench;

/// Offsets of samples of 1 to `longest` rows, drawn evenly; the first has all.
std::vector<std::int64_t> drawn_offsets(std::int64_t samples, std::int64_t longest,
                                        std::uint64_t seed) {
  std::vector<std::int64_t> offsets{0, longest};
  for (std::int64_t s = 1; s < samples; ++s) {
    const double drawn = RandomStream{.seed = seed}.uniform(s);
    offsets.push_back(offsets.back() + 1 + static_cast<std::int64_t>(drawn * longest));
  }
  return offsets;
}

/// Queries of one projection over keys and values of another, side by side. Variant "group": the
/// same problem six times, as for all directed pairs of three modalities. Variant "varied": each
/// sample has its own number of queries and of keys.
template <class T>
struct Data {
  using Sum = SumOf<T>;
  std::int64_t samples, queries, keys, heads, width, total;
  int count;
  Array<std::int64_t> query_offsets, key_offsets;
  Array<T> query, key_value, doutput;
  Array<Sum> output, log_sum_exp, dquery, dkey_value, workspace;
  AttentionProblem<T> problem;
  AttentionWork work;

  explicit Data(benchmark::State& state, int problems = 1, bool varied = false)
      : samples(state.range(0)),
        queries(state.range(1)),
        keys(state.range(2)),
        heads(state.range(3)),
        width(state.range(4)),
        total(heads * width),
        count(problems),
        query_offsets(varied ? drawn_offsets(samples, queries, 5) : even_offsets(samples, queries)),
        key_offsets(varied ? drawn_offsets(samples, keys, 6) : even_offsets(samples, keys)),
        query(normals_of<T>(query_offsets[samples] * total, 1)),
        key_value(normals_of<T>(key_offsets[samples] * 2 * total, 2)),
        doutput(normals_of<T>(query.size(), 3)),
        output(count * query.size()),
        log_sum_exp(count * query_offsets[samples] * heads),
        dquery(count * query.size()),
        dkey_value(count * key_value.size()) {
    problem = {.query = query.data(),
               .key = key_value.data(),
               .value = key_value.data() + total,
               .query_stride = total,
               .key_stride = 2 * total,
               .value_stride = 2 * total,
               .query_begins = query_offsets.data(),
               .query_ends = query_offsets.data() + 1,
               .key_begins = key_offsets.data(),
               .key_ends = key_offsets.data() + 1,
               .samples = samples,
               .heads = heads,
               .head_width = width,
               .most_queries = queries,
               .most_keys = keys,
               .scale = 1 / std::sqrt(static_cast<float>(width)),
               .query_rows = query_offsets[samples],
               .key_rows = key_offsets[samples]};
    workspace = Array<Sum>(
        std::max(attention_forward_workspace(forward()), attention_backward_workspace(backward())));
    work = AttentionWork::of(&query_offsets[0], &key_offsets[0], samples);
    work.rows *= count;
    work.pairs *= count;
  }
  AttentionForward<T> forward() {
    AttentionForward<T> args{.count = count, .workspace = workspace.data()};
    for (int i = 0; i < count; ++i) {
      args.items[i] = {problem, output.data() + i * query.size(),
                       log_sum_exp.data() + i * query_offsets[samples] * heads};
    }
    return args;
  }
  AttentionBackward<T> backward() {
    AttentionBackward<T> args{.count = count, .workspace = workspace.data()};
    const auto forward_args = forward();
    for (int i = 0; i < count; ++i) {
      const auto& item = forward_args.items[i];
      Sum* dkey = dkey_value.data() + i * key_value.size();
      args.items[i] = {
          problem, item.output, item.log_sum_exp, doutput.data(), dquery.data() + i * query.size(),
          dkey,    dkey + total};
    }
    return args;
  }
};

void softmax_rows(std::vector<float>& scores, std::int64_t rows, std::int64_t length) {
  for (std::int64_t i = 0; i < rows; ++i) {
    float* row = scores.data() + i * length;
    const float maximum = *std::max_element(row, row + length);
    float sum = 0;
    for (std::int64_t j = 0; j < length; ++j) sum += row[j] = std::exp(row[j] - maximum);
    for (std::int64_t j = 0; j < length; ++j) row[j] /= sum;
  }
}

/// The rows of a head as f32.
template <class T>
std::vector<float> rows_of(const Array<T>& matrix, std::int64_t first, std::int64_t rows,
                           std::int64_t stride, std::int64_t width) {
  std::vector<float> part;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < width; ++c)
      part.push_back(static_cast<float>(as_double(matrix[first + r * stride + c])));
  }
  return part;
}

/// a b^T for rows of one width.
void dot_rows(const std::vector<float>& a, const std::vector<float>& b, std::int64_t width,
              float scale, std::vector<float>& c) {
  const std::int64_t rows = std::ssize(a) / width, columns = std::ssize(b) / width;
  c.resize(rows * columns);
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      float sum = 0;
      for (std::int64_t d = 0; d < width; ++d) sum += a[i * width + d] * b[j * width + d];
      c[i * columns + j] = scale * sum;
    }
  }
}

/// to[i] += sum_j weights(i, j) from[j].
template <class Weights>
void add_weighted(const Weights& weights, const std::vector<float>& from, std::int64_t width,
                  std::int64_t rows, float* to, std::int64_t stride) {
  const std::int64_t count = std::ssize(from) / width;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < count; ++j) {
      for (std::int64_t d = 0; d < width; ++d)
        to[i * stride + d] += weights(i, j) * from[j * width + d];
    }
  }
}

/// The output and the gradients of the first problem.
struct Results {
  std::vector<float> output, dquery, dkey_value;
};

/// A head of a sample: its first element in the queries and in the keys, and its numbers of rows.
struct HeadRows {
  std::int64_t q0, k0, queries, keys;
};

/// A head as the kernel gave it.
template <class T>
void copy_head(const Data<T>& d, const HeadRows& head, Results& e) {
  for (std::int64_t i = 0; i < head.queries * d.width; ++i) {
    const std::int64_t at = head.q0 + i / d.width * d.total + i % d.width;
    e.output[at] = d.output[at];
    e.dquery[at] = d.dquery[at];
  }
  for (std::int64_t i = 0; i < 2 * head.keys * d.width; ++i) {
    const std::int64_t at = head.k0 + i / d.width * d.total + i % d.width;
    e.dkey_value[at] = d.dkey_value[at];
  }
}

/// Drops what the kernel drops of a head's probabilities (attention.h has the draws).
template <class T>
void drop_out(const Data<T>& d, const HeadRows& rows, std::vector<float>& probabilities) {
  const AttentionProblem<T>& p = d.problem;
  if (p.dropout == 0) return;
  for (std::int64_t i = 0; i < rows.queries; ++i) {
    const std::int64_t row = rows.q0 / d.total + i, head = rows.q0 % d.total / d.width;
    for (std::int64_t j = 0; j < rows.keys; ++j) {
      const bool dropped = p.stream.uniform(((row * d.heads + head) << 24) + j) < p.dropout;
      probabilities[i * rows.keys + j] *= dropped ? 0 : 1 / (1 - p.dropout);
    }
  }
}

/// The same head written out; its gradients without dropout.
template <class T>
void naive_head(const Data<T>& d, const HeadRows& head, bool with_backward, Results& e) {
  const std::int64_t q0 = head.q0, k0 = head.k0, queries = head.queries, keys = head.keys;
  const std::int64_t total = d.total;
  const auto q = rows_of(d.query, q0, queries, total, d.width),
             k = rows_of(d.key_value, k0, keys, 2 * total, d.width),
             v = rows_of(d.key_value, k0 + total, keys, 2 * total, d.width),
             dout = rows_of(d.doutput, q0, queries, total, d.width);
  std::vector<float> p, ds;
  const auto by_query = [keys](auto& matrix) {
    return [&matrix, keys](std::int64_t i, std::int64_t j) { return matrix[i * keys + j]; };
  };
  const auto by_key = [keys](auto& matrix) {
    return [&matrix, keys](std::int64_t j, std::int64_t i) { return matrix[i * keys + j]; };
  };
  dot_rows(q, k, d.width, d.problem.scale, p);
  softmax_rows(p, queries, keys);
  drop_out(d, head, p);
  add_weighted(by_query(p), v, d.width, queries, &e.output[q0], total);
  if (!with_backward) return;
  dot_rows(dout, v, d.width, 1, ds);
  for (std::int64_t i = 0; i < queries; ++i) {
    const float *row = &p[i * keys], scale = d.problem.scale;
    const float mean = std::inner_product(row, row + keys, &ds[i * keys], 0.0F);
    for (std::int64_t j = 0; j < keys; ++j)
      ds[i * keys + j] = scale * row[j] * (ds[i * keys + j] - mean);
  }
  add_weighted(by_key(p), dout, d.width, keys, &e.dkey_value[k0 + total], 2 * total);
  add_weighted(by_key(ds), q, d.width, keys, &e.dkey_value[k0], 2 * total);
  add_weighted(by_query(ds), k, d.width, queries, &e.dquery[q0], total);
}

/// As many heads written out as take about that many products; the others are what the kernel gave.
template <class T>
Results naive(const Data<T>& d, bool with_backward, double most_products = 1e9) {
  Results e{std::vector<float>(d.query.size()), std::vector<float>(d.query.size()),
            std::vector<float>(d.key_value.size())};
  const double done = std::max(1.0, most_products / (5.0 * d.queries * d.keys * d.width));
  for (std::int64_t at = 0; at < d.samples * d.heads; ++at) {
    const std::int64_t s = at / d.heads, column = at % d.heads * d.width;
    const std::int64_t *q = &d.query_offsets[s], *k = &d.key_offsets[s];
    const HeadRows head{q[0] * d.total + column, k[0] * 2 * d.total + column, q[1] - q[0],
                        k[1] - k[0]};
    if (static_cast<double>(at) < done) {
      naive_head(d, head, with_backward, e);
    } else {
      copy_head(d, head, e);
    }
  }
  return e;
}

/// All problems of a group have the same inputs.
template <class Array>
bool repeats(benchmark::State& state, Array& array, int count) {
  const std::vector<float>& all = array.fetch();
  const auto size = static_cast<std::ptrdiff_t>(all.size()) / count;
  for (int i = 1; i < count; ++i) {
    if (std::equal(all.begin(), all.begin() + size, all.begin() + i * size)) continue;
    fail(state, "a group's equal problems have results that differ");
    return false;
  }
  return true;
}

template <class T>
constexpr double kTolerance = std::is_same_v<T, BFloat16> ? 0.05 : 1e-3;

/// Whole score matrices, two BLAS products per (sample, head).
void blas(Data<float>& d, std::vector<float>& scores) {
  const AttentionProblem<float>& p = d.problem;
  for (std::int64_t at = 0; at < d.samples * d.heads; ++at) {
    const std::int64_t column = at % d.heads * d.width;
    const std::int64_t q0 = at / d.heads * d.queries * d.total + column,
                       k0 = at / d.heads * d.keys * 2 * d.total + column;
    run({}, Gemm<float>{.transpose_b = true,
                        .m = d.queries,
                        .n = d.keys,
                        .k = d.width,
                        .alpha = p.scale,
                        .a = p.query + q0,
                        .lda = p.query_stride,
                        .b = p.key + k0,
                        .ldb = p.key_stride,
                        .c = scores.data(),
                        .ldc = d.keys});
    softmax_rows(scores, d.queries, d.keys);
    run({}, Gemm<float>{.m = d.queries,
                        .n = d.width,
                        .k = d.keys,
                        .a = scores.data(),
                        .lda = d.keys,
                        .b = p.value + k0,
                        .ldb = p.value_stride,
                        .c = d.output.data() + q0,
                        .ldc = d.total});
  }
}

void forward_naive(benchmark::State& state) {
  Data<float> d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d, false, 1e30)); },
      cost_of(d.forward(), d.work));
}

void forward_blas(benchmark::State& state) {
  Data<float> d(state);
  std::vector<float> scores(d.queries * d.keys);
  blas(d, scores);
  if (!agree(state, d.output, naive(d, false).output, 1e-3)) return;
  time_calls(
      state, [&] { blas(d, scores); }, cost_of(d.forward(), d.work));
}

template <class T, int kProblems, int kDropoutPercent = 0, bool kVaried = false>
void forward(benchmark::State& state) {
  Data<T> d(state, kProblems, kVaried);
  d.problem.dropout = kDropoutPercent / 100.0F;
  d.problem.stream = {.seed = 4};
  const auto right = [&] {
    d.output.fetch();
    hand_over(state, [&] {
      return NamedTensors{{"query", tensor_of(d.query)},
                          {"key_value", tensor_of(d.key_value)},
                          {"query_offsets", tensor_of(d.query_offsets)},
                          {"key_offsets", tensor_of(d.key_offsets)},
                          {"out.y", tensor_of(d.output)}};
    });
    return repeats(state, d.output, kProblems) &&
           agree(state, d.output, naive(d, false).output, kTolerance<T>);
  };
  measure(state, d.forward(), right, d.work);
}

void backward_naive(benchmark::State& state) {
  Data<float> d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive(d, true, 1e30)); },
      cost_of(d.backward(), d.work));
}

template <class T, int kProblems, bool kVaried = false>
void backward(benchmark::State& state) {
  Data<T> d(state, kProblems, kVaried);
  run(device(), d.forward());
  const auto right = [&] {
    d.dquery.fetch();
    d.dkey_value.fetch();
    hand_over(state, [&] {
      return NamedTensors{{"query", tensor_of(d.query)},
                          {"key_value", tensor_of(d.key_value)},
                          {"query_offsets", tensor_of(d.query_offsets)},
                          {"key_offsets", tensor_of(d.key_offsets)},
                          {"dy", tensor_of(d.doutput)},
                          {"out.dquery", tensor_of(d.dquery)},
                          {"out.dkey_value", tensor_of(d.dkey_value)}};
    });
    const Results expected = naive(d, true);
    return repeats(state, d.dquery, kProblems) && repeats(state, d.dkey_value, kProblems) &&
           agree(state, d.dquery, expected.dquery, kTolerance<T>) &&
           agree(state, d.dkey_value, expected.dkey_value, kTolerance<T>);
  };
  measure(state, d.backward(), right, d.work);
}

const std::vector<std::string> kSizes = {"samples", "queries", "keys", "heads", "width"};
const Table kTable = {kSizes,
                      {{2, 12, 12, 5, 30}, {48, 12, 12, 5, 30}, {48, 50, 50, 5, 30}},
                      {{8, 1024, 1024, 8, 64}, {16, 4096, 4096, 16, 128}},
                      {{48, 50, 500, 5, 30}, {32, 50, 375, 8, 64}}};
const Table kGroup = {kSizes, {{2, 3, 5, 2, 6}, {48, 50, 50, 5, 30}}, {{48, 50, 500, 5, 30}}};
const Table kVaried = {kSizes,
                       {{3, 7, 5, 2, 6}, {48, 50, 500, 5, 30}},
                       {{8, 1024, 1024, 8, 64}, {16, 4096, 4096, 16, 128}},
                       {{32, 50, 375, 8, 64}}};
const Table kPeer = {kSizes, {{48, 12, 12, 5, 30}}, {}, {{48, 50, 500, 5, 30}}};
const Register registered{{
    kernel<AttentionForward<float>>(kTable, forward<float, 1>),
    kernel<AttentionForward<float>>(kTable, forward<float, 1, 20>, "dropout"),
    kernel<AttentionForward<float>>(kGroup, forward<float, 6>, "group"),
    kernel<AttentionForward<float>>(kVaried, forward<float, 1, 0, true>, "varied"),
    kernel<AttentionForward<BFloat16>>(kTable, forward<BFloat16, 1>),
    kernel<AttentionForward<BFloat16>>(kVaried, forward<BFloat16, 1, 0, true>, "varied"),
    peer<AttentionForward<float>>("naive", kPeer, forward_naive),
    peer<AttentionForward<float>>("blas", kPeer, forward_blas),
    kernel<AttentionBackward<float>>(kTable, backward<float, 1>),
    kernel<AttentionBackward<float>>(kGroup, backward<float, 6>, "group"),
    kernel<AttentionBackward<float>>(kVaried, backward<float, 1, true>, "varied"),
    kernel<AttentionBackward<BFloat16>>(kTable, backward<BFloat16, 1>),
    kernel<AttentionBackward<BFloat16>>(kVaried, backward<BFloat16, 1, true>, "varied"),
    peer<AttentionBackward<float>>("naive", kPeer, backward_naive),
}};

}  // namespace
}  // namespace cmir::kernels
