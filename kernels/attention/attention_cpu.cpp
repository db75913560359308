#include "kernels/attention/attention.h"

#include <cmath>
#include <limits>

#include "core/parallel.h"
#include "kernels/cpu/philox.h"
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

/// Calls f(j, m) for the keys j < count of query row r and head h, m being 0 for a dropped key and
/// 1 / (1 - dropout) for a kept one.
template <class T, class F>
void for_each_mask(const AttentionProblem<T>& p, std::int64_t r, std::int64_t h, std::int64_t count,
                   F&& f) {
  const T keep = T{1} / (T{1} - static_cast<T>(p.dropout));
  const auto threshold =
      static_cast<std::int32_t>(std::ceil(p.dropout * 0x1p24F));  // uniform < dropout, in integers
  const std::uint64_t block = static_cast<std::uint64_t>(r * p.heads + h) << 22;
  for (std::int64_t j0 = 0; j0 < count; j0 += 32) {
    std::uint32_t words[32];
    cpu::philox_words<8>(p.stream, block + static_cast<std::uint64_t>(j0) / 4, words);
    const std::int64_t lanes = std::min<std::int64_t>(32, count - j0);
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      f(j0 + j, static_cast<std::int32_t>(words[j] >> 8) < threshold ? T{0} : keep);
    }
  }
}

/// The log-sum-exp of a row of scores, and the sum of the exponentials that replaced them.
template <class T>
struct Exponentials {
  T log_sum_exp, sum;
};

/// row = exp(scale row - maximum) for j < visible, 0 up to `padded`: whole vectors, without a tail.
template <class T>
Exponentials<T> exponentiate(T* row, std::int64_t visible, std::int64_t padded, T scale) {
  constexpr T kMasked = -std::numeric_limits<T>::infinity();
  std::fill(row + visible, row + padded, kMasked);
  T maximum = kMasked;
#pragma omp simd reduction(max : maximum)
  for (std::int64_t j = 0; j < padded; ++j) {
    const T x = scale * row[j];
    maximum = x > maximum ? x : maximum;
  }
  // No logit above -inf: exp(-inf - 0) = 0 throughout, and the log-sum-exp is -inf. NaN stays NaN.
  const T shift = maximum == kMasked ? T{0} : maximum;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < padded; ++j) {
    row[j] = cpu::exp(scale * row[j] - shift);
    sum += row[j];
  }
  return {sum == T{0} ? kMasked : shift + std::log(sum), sum};
}

template <class T>
void forward_tile(const AttentionForward<T>& a, const Head<T>& head, std::int64_t first,
                  std::int64_t rows, T* workspace) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, keys = head.keys;
  const std::int64_t padded_width = padded_columns<T>(width), padded_keys = padded_columns<T>(keys);
  T* key = workspace;                                    // packed [width, keys]
  T* value = key + cpu::packed_size<T>(width, keys);     // packed [keys, width]
  T* scores = value + cpu::packed_size<T>(keys, width);  // [rows, padded_keys]
  T* output = scores + cpu::packed_size<T>(rows, keys);  // [rows, padded_width]
  pack(head.key, std::int64_t{1}, p.key_stride, width, keys, width, key);
  pack(head.value, p.value_stride, std::int64_t{1}, keys, width, keys, value);
  multiply<false>(rows, padded_keys, width, head.query + first * p.query_stride, p.query_stride,
                  std::int64_t{1}, key, scores, padded_keys);
  T normalise[kAttentionTile];
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t r = head.first_query + first + i;
    T* row = scores + i * padded_keys;
    const auto e = exponentiate(row, head.visible(first + i, p.causal), padded_keys, p.scale);
    a.log_sum_exp[r * p.heads + head.head] = e.log_sum_exp;
    normalise[i] = e.sum == T{0} ? T{0} : T{1} / e.sum;
    if (p.dropout > 0)
      for_each_mask(p, r, head.head, keys, [row](std::int64_t j, T mask) { row[j] *= mask; });
  }
  multiply<false>(rows, padded_width, keys, scores, padded_keys, std::int64_t{1}, value, output,
                  padded_width);
  for (std::int64_t i = 0; i < rows; ++i) {
    const T* from = output + i * padded_width;
    T* to = a.output + (head.first_query + first + i) * p.width() + head.head * width;
    const T factor = normalise[i];
#pragma omp simd
    for (std::int64_t d = 0; d < width; ++d) to[d] = factor * from[d];
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

/// The scratch of one (sample, head) in backward. Rows of [tile or keys] matrices are padded to
/// whole panels.
template <class T>
struct BackwardScratch {
  std::int64_t padded_width, padded_keys;
  T* key_columns;    // packed [width, keys]
  T* value_columns;  // packed [width, keys]
  T* key_rows;       // packed [keys, width]
  T* query;          // packed [tile, width]
  T* doutput;        // packed [tile, width]
  T* probability;    // [tile, padded_keys]
  T* gradient;       // [tile, padded_keys]
  T* dquery;         // [tile, padded_width]
  T* dkey;           // [keys, padded_width]
  T* dvalue;         // [keys, padded_width]

  BackwardScratch(T* workspace, std::int64_t width, std::int64_t keys, std::int64_t tile)
      : padded_width(padded_columns<T>(width)),
        padded_keys(padded_columns<T>(keys)),
        key_columns(workspace),
        value_columns(key_columns + cpu::packed_size<T>(width, keys)),
        key_rows(value_columns + cpu::packed_size<T>(width, keys)),
        query(key_rows + cpu::packed_size<T>(keys, width)),
        doutput(query + cpu::packed_size<T>(tile, width)),
        probability(doutput + cpu::packed_size<T>(tile, width)),
        gradient(probability + cpu::packed_size<T>(tile, keys)),
        dquery(gradient + cpu::packed_size<T>(tile, keys)),
        dkey(dquery + cpu::packed_size<T>(tile, width)),
        dvalue(dkey + cpu::packed_size<T>(keys, width)) {}
};

/// From the scores q.k in `row` and doutput.value in `drow` of one query: P with its dropout, and
/// dS.
template <class T>
void score_gradient(const AttentionBackward<T>& a, const Head<T>& head, std::int64_t i, T* row,
                    T* drow) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t r = head.first_query + i, at = r * p.width() + head.head * p.head_width;
  const T* output = a.output + at;
  const T* doutput = a.doutput + at;
  const T log_sum_exp = a.log_sum_exp[r * p.heads + head.head], scale = p.scale;
  constexpr T kMasked = -std::numeric_limits<T>::infinity();
  const std::int64_t visible = head.visible(i, p.causal);
  T dot = 0;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t d = 0; d < p.head_width; ++d) dot += doutput[d] * output[d];
  // An empty row's scores are all -inf or unseen: exp(-inf - 0) = 0.
  const T shift = log_sum_exp == kMasked ? T{0} : log_sum_exp;
  std::fill(row + visible, row + padded_columns<T>(head.keys), kMasked);
#pragma omp simd
  for (std::int64_t j = 0; j < padded_columns<T>(head.keys); ++j) {
    row[j] = cpu::exp(scale * row[j] - shift);
  }
  if (p.dropout > 0) {
    for_each_mask(p, r, head.head, visible, [=](std::int64_t j, T mask) {
      drow[j] = scale * row[j] * (mask * drow[j] - dot);
      row[j] *= mask;
    });
  } else {
#pragma omp simd
    for (std::int64_t j = 0; j < visible; ++j) drow[j] = scale * row[j] * (drow[j] - dot);
  }
  std::fill(drow + visible, drow + head.keys, T{0});
}

template <class T>
void copy_rows(const T* from, std::int64_t rows, std::int64_t width, std::int64_t from_stride,
               T* to, std::int64_t to_stride) {
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(from + r * from_stride, width, to + r * to_stride);
}

/// Adds a tile of queries to scratch.dkey and dvalue, and writes its dquery.
template <class T>
void backward_tile(const AttentionBackward<T>& a, const Head<T>& head, std::int64_t first,
                   std::int64_t rows, const BackwardScratch<T>& scratch) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, keys = head.keys;
  const std::int64_t padded_width = scratch.padded_width, padded_keys = scratch.padded_keys;
  const T* query = head.query + first * p.query_stride;
  const T* doutput = a.doutput + (head.first_query + first) * p.width() + head.head * width;
  multiply<false>(rows, padded_keys, width, query, p.query_stride, std::int64_t{1},
                  scratch.key_columns, scratch.probability, padded_keys);
  multiply<false>(rows, padded_keys, width, doutput, p.width(), std::int64_t{1},
                  scratch.value_columns, scratch.gradient, padded_keys);
  for (std::int64_t i = 0; i < rows; ++i) {
    score_gradient(a, head, first + i, scratch.probability + i * padded_keys,
                   scratch.gradient + i * padded_keys);
  }
  pack(query, p.query_stride, std::int64_t{1}, rows, width, rows, scratch.query);
  pack(doutput, p.width(), std::int64_t{1}, rows, width, rows, scratch.doutput);
  multiply<true>(keys, padded_width, rows, scratch.probability, std::int64_t{1}, padded_keys,
                 scratch.doutput, scratch.dvalue, padded_width);
  multiply<true>(keys, padded_width, rows, scratch.gradient, std::int64_t{1}, padded_keys,
                 scratch.query, scratch.dkey, padded_width);
  multiply<false>(rows, padded_width, keys, scratch.gradient, padded_keys, std::int64_t{1},
                  scratch.key_rows, scratch.dquery, padded_width);
  copy_rows(scratch.dquery, rows, width, padded_width,
            a.dquery + (head.first_query + first) * p.query_stride + head.head * width,
            p.query_stride);
}

template <class T>
void backward(const AttentionBackward<T>& a) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t tasks = p.samples * p.heads, grain = attention_grain(tasks);
  parallel_for(0, tasks, grain, [&](std::int64_t begin, std::int64_t end) {
    T* workspace = a.workspace + begin / grain * attention_backward_chunk(p);
    for (std::int64_t task = begin; task < end; ++task) {
      const Head<T> head(p, task / p.heads, task % p.heads);
      const std::int64_t width = p.head_width, keys = head.keys, column = head.head * width;
      const BackwardScratch<T> scratch(workspace, width, keys,
                                       std::min(head.queries, kAttentionTile));
      pack(head.key, std::int64_t{1}, p.key_stride, width, keys, width, scratch.key_columns);
      pack(head.value, std::int64_t{1}, p.value_stride, width, keys, width, scratch.value_columns);
      pack(head.key, p.key_stride, std::int64_t{1}, keys, width, keys, scratch.key_rows);
      std::fill_n(scratch.dkey, keys * scratch.padded_width, T{0});
      std::fill_n(scratch.dvalue, keys * scratch.padded_width, T{0});
      for (std::int64_t first = 0; first < head.queries; first += kAttentionTile) {
        backward_tile(a, head, first, std::min(kAttentionTile, head.queries - first), scratch);
      }
      copy_rows(scratch.dkey, keys, width, scratch.padded_width,
                a.dkey + head.first_key * p.key_stride + column, p.key_stride);
      copy_rows(scratch.dvalue, keys, width, scratch.padded_width,
                a.dvalue + head.first_key * p.value_stride + column, p.value_stride);
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
