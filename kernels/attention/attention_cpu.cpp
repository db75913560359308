#include "kernels/attention/attention.h"

#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
#include "kernels/cpu/small_matrix.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// One head of one sample: pointers to its first row and the numbers of its rows.
template <class T>
struct Head {
  const T* query;
  const T* key;
  const T* value;
  std::int64_t sample, head;
  std::int64_t first_query, queries, first_key, keys;

  Head(const AttentionProblem<T>& p, std::int64_t s, std::int64_t h)
      : query(p.query + p.query_offsets[s] * p.query_stride + h * p.head_width),
        key(p.key + p.key_offsets[s] * p.key_stride + h * p.head_width),
        value(p.value + p.key_offsets[s] * p.value_stride + h * p.head_width),
        sample(s),
        head(h),
        first_query(p.query_offsets[s]),
        queries(p.query_offsets[s + 1] - p.query_offsets[s]),
        first_key(p.key_offsets[s]),
        keys(p.key_offsets[s + 1] - p.key_offsets[s]) {}

  /// The number of keys that query i sees: always the first ones.
  std::int64_t visible(std::int64_t i, bool causal) const {
    return causal ? std::clamp<std::int64_t>(i + keys - queries + 1, 0, keys) : keys;
  }
};

/// Multiplies row[j] by 1 / (1 - dropout) or 0, for the keys j < count of query row r and head h.
template <class T>
void apply_dropout(const AttentionProblem<T>& p, std::int64_t r, std::int64_t h, T* row,
                   std::int64_t count) {
  const T keep = T{1} / (T{1} - static_cast<T>(p.dropout));
  const std::uint64_t block = static_cast<std::uint64_t>(r * p.heads + h) << 22;
  for (std::int64_t j = 0; j < count; j += 4) {
    const auto words = p.stream.words(block + static_cast<std::uint64_t>(j) / 4);
    for (std::int64_t lane = 0; lane < std::min<std::int64_t>(4, count - j); ++lane) {
      row[j + lane] *= RandomStream::uniform_of(words[lane]) < p.dropout ? T{0} : keep;
    }
  }
}

/// row = exp(scale row - maximum) for j < visible, 0 up to `keys`. Returns the log-sum-exp and the
/// sum of the exponentials.
template <class T>
struct Exponentials {
  T log_sum_exp, sum;
};
template <class T>
Exponentials<T> exponentiate(T* row, std::int64_t visible, std::int64_t keys, T scale) {
  T maximum = -std::numeric_limits<T>::infinity();
#pragma omp simd reduction(max : maximum)
  for (std::int64_t j = 0; j < visible; ++j) {
    const T x = scale * row[j];
    maximum = x > maximum ? x : maximum;
  }
  // Every visible logit -inf (or none visible): exp(-inf - 0) = 0 for all, and the log-sum-exp is
  // -inf.
  const T shift = maximum == -std::numeric_limits<T>::infinity() ? T{0} : maximum;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < visible; ++j) {
    row[j] = cpu::exp(scale * row[j] - shift);
    sum += row[j];
  }
  std::fill(row + visible, row + keys, T{0});
  return {sum > T{0} ? shift + std::log(sum)
                     : (sum == T{0} ? -std::numeric_limits<T>::infinity() : sum),
          sum};
}

template <class T>
void forward_tile(const AttentionForward<T>& a, const Head<T>& head, std::int64_t first,
                  std::int64_t rows, T* workspace) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, keys = head.keys;
  T* key = workspace;                                    // [width, keys]
  T* value = key + cpu::packed_size<T>(width, keys);     // [keys, width]
  T* scores = value + cpu::packed_size<T>(keys, width);  // [rows, keys]
  pack(head.key, std::int64_t{1}, p.key_stride, width, keys, width, key);
  pack(head.value, p.value_stride, std::int64_t{1}, keys, width, keys, value);
  std::fill_n(scores, rows * keys, T{0});
  multiply_add(rows, keys, width, head.query + first * p.query_stride, p.query_stride,
               std::int64_t{1}, key, scores, keys);
  T sums[kAttentionTile];
  T* output = a.output + (head.first_query + first) * p.width() + head.head * width;
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t r = head.first_query + first + i;
    T* row = scores + i * keys;
    const auto e = exponentiate(row, head.visible(first + i, p.causal), keys, p.scale);
    a.log_sum_exp[r * p.heads + head.head] = e.log_sum_exp;
    sums[i] = e.sum;
    if (p.dropout > 0) apply_dropout(p, r, head.head, row, keys);
    std::fill_n(output + i * p.width(), width, T{0});
  }
  multiply_add(rows, width, keys, scores, keys, std::int64_t{1}, value, output, p.width());
  for (std::int64_t i = 0; i < rows; ++i) {
    const T normalise = sums[i] == T{0} ? T{0} : T{1} / sums[i];
    T* row = output + i * p.width();
#pragma omp simd
    for (std::int64_t d = 0; d < width; ++d) row[d] *= normalise;
  }
}

template <class T>
void forward(const AttentionForward<T>& a) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t tiles = chunk_count(0, p.most_queries, kAttentionTile);
  const std::int64_t tasks = attention_forward_tasks(p), grain = attention_grain(tasks);
  parallel_for(0, tasks, grain, [&](std::int64_t begin, std::int64_t end) {
    T* workspace = a.workspace + begin / grain * attention_forward_chunk(p);
    for (std::int64_t task = begin; task < end; ++task) {
      const Head<T> head(p, task / tiles / p.heads, task / tiles % p.heads);
      const std::int64_t first = task % tiles * kAttentionTile;
      const std::int64_t rows = std::min(kAttentionTile, head.queries - first);
      if (rows > 0) forward_tile(a, head, first, rows, workspace);
    }
  });
}

/// The scratch of one (sample, head) in backward.
template <class T>
struct BackwardScratch {
  T* key_columns;    // packed [width, keys]
  T* value_columns;  // packed [width, keys]
  T* key_rows;       // packed [keys, width]
  T* query;          // packed [tile, width]
  T* doutput;        // packed [tile, width]
  T* probability;    // [tile, keys]
  T* gradient;       // [tile, keys]

  BackwardScratch(T* workspace, std::int64_t width, std::int64_t keys, std::int64_t tile)
      : key_columns(workspace),
        value_columns(key_columns + cpu::packed_size<T>(width, keys)),
        key_rows(value_columns + cpu::packed_size<T>(width, keys)),
        query(key_rows + cpu::packed_size<T>(keys, width)),
        doutput(query + cpu::packed_size<T>(tile, width)),
        probability(doutput + cpu::packed_size<T>(tile, width)),
        gradient(probability + tile * keys) {}
};

template <class T>
void backward_tile(const AttentionBackward<T>& a, const Head<T>& head, std::int64_t first,
                   std::int64_t rows, const BackwardScratch<T>& scratch) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, keys = head.keys;
  const std::int64_t at = (head.first_query + first) * p.width() + head.head * width;
  const T* query = head.query + first * p.query_stride;
  const T* doutput = a.doutput + at;
  T* probability = scratch.probability;
  T* gradient = scratch.gradient;
  std::fill_n(probability, rows * keys, T{0});
  std::fill_n(gradient, rows * keys, T{0});
  multiply_add(rows, keys, width, query, p.query_stride, std::int64_t{1}, scratch.key_columns,
               probability, keys);
  multiply_add(rows, keys, width, doutput, p.width(), std::int64_t{1}, scratch.value_columns,
               gradient, keys);
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t r = head.first_query + first + i;
    const T log_sum_exp = a.log_sum_exp[r * p.heads + head.head];
    const bool empty = log_sum_exp == -std::numeric_limits<T>::infinity();
    const std::int64_t visible = empty ? 0 : head.visible(first + i, p.causal);
    T* row = probability + i * keys;
    T* drow = gradient + i * keys;
    const T* output = a.output + at + i * p.width();
    T dot = 0;
#pragma omp simd reduction(+ : dot)
    for (std::int64_t d = 0; d < width; ++d) dot += doutput[i * p.width() + d] * output[d];
    if (p.dropout > 0) apply_dropout(p, r, head.head, drow, visible);
#pragma omp simd
    for (std::int64_t j = 0; j < visible; ++j) {
      row[j] = cpu::exp(p.scale * row[j] - log_sum_exp);
      drow[j] = p.scale * row[j] * (drow[j] - dot);
    }
    std::fill(row + visible, row + keys, T{0});
    std::fill(drow + visible, drow + keys, T{0});
    if (p.dropout > 0) apply_dropout(p, r, head.head, row, visible);
  }
  pack(query, p.query_stride, std::int64_t{1}, rows, width, rows, scratch.query);
  pack(doutput, p.width(), std::int64_t{1}, rows, width, rows, scratch.doutput);
  multiply_add(keys, width, rows, probability, std::int64_t{1}, keys, scratch.doutput,
               a.dvalue + head.first_key * p.value_stride + head.head * width, p.value_stride);
  multiply_add(keys, width, rows, gradient, std::int64_t{1}, keys, scratch.query,
               a.dkey + head.first_key * p.key_stride + head.head * width, p.key_stride);
  multiply_add(rows, width, keys, gradient, keys, std::int64_t{1}, scratch.key_rows,
               a.dquery + (head.first_query + first) * p.query_stride + head.head * width,
               p.query_stride);
}

template <class T>
void fill_rows(T* x, std::int64_t rows, std::int64_t width, std::int64_t stride) {
  for (std::int64_t r = 0; r < rows; ++r) std::fill_n(x + r * stride, width, T{0});
}

template <class T>
void backward(const AttentionBackward<T>& a) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t tasks = p.samples * p.heads, grain = attention_grain(tasks);
  parallel_for(0, tasks, grain, [&](std::int64_t begin, std::int64_t end) {
    T* workspace = a.workspace + begin / grain * attention_backward_chunk(p);
    for (std::int64_t task = begin; task < end; ++task) {
      const Head<T> head(p, task / p.heads, task % p.heads);
      const std::int64_t width = p.head_width, column = head.head * width;
      fill_rows(a.dquery + head.first_query * p.query_stride + column, head.queries, width,
                p.query_stride);
      fill_rows(a.dkey + head.first_key * p.key_stride + column, head.keys, width, p.key_stride);
      fill_rows(a.dvalue + head.first_key * p.value_stride + column, head.keys, width,
                p.value_stride);
      if (head.keys == 0) continue;
      const BackwardScratch<T> scratch(workspace, width, head.keys,
                                       std::min(head.queries, kAttentionTile));
      pack(head.key, std::int64_t{1}, p.key_stride, width, head.keys, width, scratch.key_columns);
      pack(head.value, std::int64_t{1}, p.value_stride, width, head.keys, width,
           scratch.value_columns);
      pack(head.key, p.key_stride, std::int64_t{1}, head.keys, width, head.keys, scratch.key_rows);
      for (std::int64_t first = 0; first < head.queries; first += kAttentionTile) {
        backward_tile(a, head, first, std::min(kAttentionTile, head.queries - first), scratch);
      }
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
