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

template <class T>
constexpr T kMasked = -std::numeric_limits<T>::infinity();

/// One head of one sample: pointers to its first row and the numbers of its rows.
template <class T>
struct Head {
  const T* query;
  const T* key;
  const T* value;
  std::int64_t sample, head;
  std::int64_t first_query, queries, first_key, keys;

  Head(const AttentionProblem<T>& p, std::int64_t s, std::int64_t h)
      : query(p.query + p.query_begins[s] * p.query_stride + h * p.head_width),
        key(p.key + p.key_begins[s] * p.key_stride + h * p.head_width),
        value(p.value + p.key_begins[s] * p.value_stride + h * p.head_width),
        sample(s),
        head(h),
        first_query(p.query_begins[s]),
        queries(p.query_ends[s] - first_query),
        first_key(p.key_begins[s]),
        keys(p.key_ends[s] - first_key) {}

  /// The number of keys that query i sees: always the first ones.
  std::int64_t visible(std::int64_t i, bool causal) const {
    return causal ? std::clamp<std::int64_t>(i + keys - queries + 1, 0, keys) : keys;
  }
};

/// x as a factor of a product: rounded to bf16 where the problem's arrays are.
template <class T>
SumOf<T> as_factor(SumOf<T> x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return static_cast<float>(BFloat16(x));
  } else {
    return x;
  }
}

/// Rows `from_stride` apart into rows `to_stride` apart, converted.
template <class From, class To>
void copy_rows(const From* from, std::int64_t rows, std::int64_t width, std::int64_t from_stride,
               To* to, std::int64_t to_stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t d = 0; d < width; ++d) {
      to[r * to_stride + d] = static_cast<To>(from[r * from_stride + d]);
    }
  }
}

/// Calls f(j, m) for the keys j < count of query row r and head h, m being 0 for a dropped key and
/// 1 / (1 - dropout) for a kept one.
template <class T, class F>
void for_each_mask(const AttentionProblem<T>& p, std::int64_t r, std::int64_t h, std::int64_t count,
                   F&& f) {
  using Sum = SumOf<T>;
  const Sum keep = Sum{1} / (Sum{1} - static_cast<Sum>(p.dropout));
  const auto threshold =
      static_cast<std::int32_t>(std::ceil(p.dropout * 0x1p24F));  // uniform < dropout, in integers
  const std::uint64_t block = static_cast<std::uint64_t>(r * p.heads + h) << 22;
  for (std::int64_t j0 = 0; j0 < count; j0 += 32) {
    std::uint32_t words[32];
    cpu::philox_words<8>(p.stream, block + static_cast<std::uint64_t>(j0) / 4, words);
    const std::int64_t lanes = std::min<std::int64_t>(32, count - j0);
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      f(j0 + j, static_cast<std::int32_t>(words[j] >> 8) < threshold ? Sum{0} : keep);
    }
  }
}

/// The scores q.k of query i in `row` become logits: -inf from the last visible key up to `padded`.
template <class T>
void to_logits(const AttentionProblem<T>& p, const Head<T>& head, std::int64_t i,
               std::int64_t padded, SumOf<T>* row) {
  using Sum = SumOf<T>;
  const std::int64_t visible = head.visible(i, p.causal);
  const Sum scale = p.scale;
  if (p.bias != nullptr) {
    const Sum* bias = p.bias + (head.head * p.bias_queries + i) * p.bias_keys;
#pragma omp simd
    for (std::int64_t j = 0; j < visible; ++j) row[j] = scale * row[j] + bias[j];
  } else {
#pragma omp simd
    for (std::int64_t j = 0; j < visible; ++j) row[j] *= scale;
  }
  std::fill(row + visible, row + padded, kMasked<Sum>);
}

/// The log-sum-exp of a row of logits, and the sum of the exponentials that replaced them.
template <class T>
struct Exponentials {
  T log_sum_exp, sum;
};

/// row = exp(row - maximum) for j < padded: whole vectors, without a tail.
template <class T>
Exponentials<T> exponentiate(T* row, std::int64_t padded) {
  T maximum = kMasked<T>;
#pragma omp simd reduction(max : maximum)
  for (std::int64_t j = 0; j < padded; ++j) maximum = row[j] > maximum ? row[j] : maximum;
  // No logit above -inf: exp(-inf - 0) = 0 throughout, and the log-sum-exp is -inf. NaN stays NaN.
  const T shift = maximum == kMasked<T> ? T{0} : maximum;
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t j = 0; j < padded; ++j) {
    row[j] = cpu::exp(row[j] - shift);
    sum += row[j];
  }
  return {sum == T{0} ? kMasked<T> : shift + std::log(sum), sum};
}

template <class T>
void forward_tile(const AttentionForwardItem<T>& a, const Head<T>& head, std::int64_t first,
                  std::int64_t rows, SumOf<T>* workspace) {
  using Sum = SumOf<T>;
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, keys = head.keys;
  const std::int64_t padded_width = padded_columns<Sum>(width),
                     padded_keys = padded_columns<Sum>(keys);
  Sum* query = workspace;                                    // [rows, width]
  Sum* key = query + rows * width;                           // packed [width, keys]
  Sum* value = key + cpu::packed_size<Sum>(width, keys);     // packed [keys, width]
  Sum* scores = value + cpu::packed_size<Sum>(keys, width);  // [rows, padded_keys]
  Sum* output = scores + cpu::packed_size<Sum>(rows, keys);  // [rows, padded_width]
  copy_rows(head.query + first * p.query_stride, rows, width, p.query_stride, query, width);
  pack(head.key, std::int64_t{1}, p.key_stride, width, keys, width, key);
  pack(head.value, p.value_stride, std::int64_t{1}, keys, width, keys, value);
  multiply<false>(rows, padded_keys, width, query, width, std::int64_t{1}, key, scores,
                  padded_keys);
  Sum normalise[kAttentionTile];
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t r = head.first_query + first + i;
    Sum* row = scores + i * padded_keys;
    to_logits(p, head, first + i, padded_keys, row);
    const auto e = exponentiate(row, padded_keys);
    a.log_sum_exp[r * p.heads + head.head] = e.log_sum_exp;
    normalise[i] = e.sum == Sum{0} ? Sum{0} : Sum{1} / e.sum;
    if (p.dropout > 0)
      for_each_mask(p, r, head.head, keys, [row](std::int64_t j, Sum mask) { row[j] *= mask; });
    for (std::int64_t j = 0; j < padded_keys; ++j) row[j] = as_factor<T>(row[j]);
  }
  multiply<false>(rows, padded_width, keys, scores, padded_keys, std::int64_t{1}, value, output,
                  padded_width);
  for (std::int64_t i = 0; i < rows; ++i) {
    const Sum* from = output + i * padded_width;
    Sum* to = a.output + (head.first_query + first + i) * p.width() + head.head * width;
    const Sum factor = normalise[i];
#pragma omp simd
    for (std::int64_t d = 0; d < width; ++d) to[d] = factor * from[d];
  }
}

/// Calls f(item, task of the item, workspace of the chunk) for every task of every item.
template <class Args, class F>
void for_each_task(const Args& a, const AttentionChunks& chunks, F&& f) {
  const std::int64_t grain = chunks.grain();
  parallel_for(0, chunks.tasks, grain, [&](std::int64_t begin, std::int64_t end) {
    auto* workspace = a.workspace + begin / grain * chunks.size;
    for (int i = 0; i < a.count; ++i) {
      const std::int64_t first = chunks.first[i], last = std::min(end, chunks.first[i + 1]);
      for (std::int64_t task = std::max(begin, first); task < last; ++task)
        f(a.items[i], task - first, workspace);
    }
  });
}

template <class T>
void forward(const AttentionForward<T>& a) {
  check_attention_group(a);
  for_each_task(a, attention_forward_chunks(a), [](const auto& item, auto task, auto* workspace) {
    const AttentionProblem<T>& p = item.problem;
    const std::int64_t tiles = attention_query_tiles(p);
    const Head<T> head(p, task / tiles / p.heads, task / tiles % p.heads);
    const std::int64_t first = task % tiles * kAttentionTile;
    const std::int64_t rows = std::min(kAttentionTile, head.queries - first);
    if (rows > 0) forward_tile(item, head, first, rows, workspace);
  });
}

/// The scratch of one (sample, head) in backward. Rows of [tile or keys] matrices are padded to
/// whole panels.
template <class T>
struct BackwardScratch {
  std::int64_t padded_width, padded_keys;
  T* query_rows;     // [tile, width]
  T* doutput_rows;   // [tile, width]
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
        query_rows(workspace),
        doutput_rows(query_rows + tile * width),
        key_columns(doutput_rows + tile * width),
        value_columns(key_columns + cpu::packed_size<T>(width, keys)),
        key_rows(value_columns + cpu::packed_size<T>(width, keys)),
        query(key_rows + cpu::packed_size<T>(keys, width)),
        doutput(query + cpu::packed_size<T>(tile, width)),
        probability(doutput + cpu::packed_size<T>(tile, width)),
        gradient(probability + cpu::packed_size<T>(tile, keys)),
        dquery(gradient + cpu::packed_size<T>(tile, keys)),
        dkey(dquery + cpu::packed_size<T>(tile, width)),
        dvalue(dkey + cpu::packed_size<T>(keys, width)) {}

  template <class From>
  void pack_keys(const AttentionProblem<From>& p, const Head<From>& head) const {
    const std::int64_t width = p.head_width, keys = head.keys;
    pack(head.key, std::int64_t{1}, p.key_stride, width, keys, width, key_columns);
    pack(head.value, std::int64_t{1}, p.value_stride, width, keys, width, value_columns);
    pack(head.key, p.key_stride, std::int64_t{1}, keys, width, keys, key_rows);
  }
};

/// From the scores q.k in `row` and doutput.value in `drow` of one query: P with its dropout, and
/// the derivative by the logits.
template <class T>
void logit_gradient(const AttentionBackwardItem<T>& a, const Head<T>& head, std::int64_t i,
                    SumOf<T>* row, SumOf<T>* drow) {
  using Sum = SumOf<T>;
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t r = head.first_query + i, at = r * p.width() + head.head * p.head_width;
  const std::int64_t padded = padded_columns<Sum>(head.keys);
  const std::int64_t visible = head.visible(i, p.causal);
  const Sum log_sum_exp = a.log_sum_exp[r * p.heads + head.head];
  Sum dot = 0;
#pragma omp simd reduction(+ : dot)
  for (std::int64_t d = 0; d < p.head_width; ++d)
    dot += static_cast<Sum>(a.doutput[at + d]) * a.output[at + d];
  // An empty row's logits are all -inf or unseen: exp(-inf - 0) = 0.
  const Sum shift = log_sum_exp == kMasked<Sum> ? Sum{0} : log_sum_exp;
  to_logits(p, head, i, padded, row);
#pragma omp simd
  for (std::int64_t j = 0; j < padded; ++j) row[j] = cpu::exp(row[j] - shift);
  if (p.dropout > 0) {
    for_each_mask(p, r, head.head, visible, [=](std::int64_t j, Sum mask) {
      drow[j] = row[j] * (mask * drow[j] - dot);
      row[j] *= mask;
    });
  } else {
#pragma omp simd
    for (std::int64_t j = 0; j < visible; ++j) drow[j] = row[j] * (drow[j] - dot);
  }
  std::fill(drow + visible, drow + padded, Sum{0});
}

/// A tile of queries: scratch.probability becomes P with its dropout, scratch.gradient the
/// derivative by the logits.
template <class T>
void logit_gradients(const AttentionBackwardItem<T>& a, const Head<T>& head, std::int64_t first,
                     std::int64_t rows, const BackwardScratch<SumOf<T>>& scratch) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, padded_keys = scratch.padded_keys;
  const T* doutput = a.doutput + (head.first_query + first) * p.width() + head.head * width;
  copy_rows(head.query + first * p.query_stride, rows, width, p.query_stride, scratch.query_rows,
            width);
  copy_rows(doutput, rows, width, p.width(), scratch.doutput_rows, width);
  multiply<false>(rows, padded_keys, width, scratch.query_rows, width, std::int64_t{1},
                  scratch.key_columns, scratch.probability, padded_keys);
  multiply<false>(rows, padded_keys, width, scratch.doutput_rows, width, std::int64_t{1},
                  scratch.value_columns, scratch.gradient, padded_keys);
  for (std::int64_t i = 0; i < rows; ++i) {
    logit_gradient(a, head, first + i, scratch.probability + i * padded_keys,
                   scratch.gradient + i * padded_keys);
  }
}

/// Adds a tile of queries to scratch.dkey and dvalue, and writes its dquery.
template <class T>
void backward_tile(const AttentionBackwardItem<T>& a, const Head<T>& head, std::int64_t first,
                   std::int64_t rows, const BackwardScratch<SumOf<T>>& scratch) {
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, keys = head.keys;
  const std::int64_t padded_width = scratch.padded_width, padded_keys = scratch.padded_keys;
  logit_gradients(a, head, first, rows, scratch);
  for (std::int64_t j = 0; j < rows * padded_keys; ++j) {
    scratch.probability[j] = as_factor<T>(scratch.probability[j]);
    scratch.gradient[j] = as_factor<T>(p.scale * scratch.gradient[j]);
  }
  pack(scratch.query_rows, width, std::int64_t{1}, rows, width, rows, scratch.query);
  pack(scratch.doutput_rows, width, std::int64_t{1}, rows, width, rows, scratch.doutput);
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
void backward_head(const AttentionBackwardItem<T>& a, const Head<T>& head, SumOf<T>* workspace) {
  using Sum = SumOf<T>;
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, keys = head.keys, column = head.head * width;
  const BackwardScratch<Sum> scratch(workspace, width, keys,
                                     std::min(head.queries, kAttentionTile));
  scratch.pack_keys(p, head);
  std::fill_n(scratch.dkey, keys * scratch.padded_width, Sum{0});
  std::fill_n(scratch.dvalue, keys * scratch.padded_width, Sum{0});
  for (std::int64_t first = 0; first < head.queries; first += kAttentionTile) {
    backward_tile(a, head, first, std::min(kAttentionTile, head.queries - first), scratch);
  }
  copy_rows(scratch.dkey, keys, width, scratch.padded_width,
            a.dkey + head.first_key * p.key_stride + column, p.key_stride);
  copy_rows(scratch.dvalue, keys, width, scratch.padded_width,
            a.dvalue + head.first_key * p.value_stride + column, p.value_stride);
}

/// The derivative by the bias of the queries [first, first + kAttentionTile) of a head: that by the
/// logits, summed over the samples in order.
template <class T>
void dbias_tile(const AttentionBackwardItem<T>& a, std::int64_t h, std::int64_t first,
                SumOf<T>* workspace) {
  using Sum = SumOf<T>;
  const AttentionProblem<T>& p = a.problem;
  Sum* dbias = a.dbias + (h * p.bias_queries + first) * p.bias_keys;
  const std::int64_t own = std::min(kAttentionTile, p.bias_queries - first);
  std::fill_n(dbias, own * p.bias_keys, Sum{0});
  for (std::int64_t s = 0; s < p.samples; ++s) {
    const Head<T> head(p, s, h);
    const std::int64_t rows = std::min(kAttentionTile, head.queries - first);
    if (rows <= 0) continue;
    const BackwardScratch<Sum> scratch(workspace, p.head_width, head.keys, rows);
    scratch.pack_keys(p, head);
    logit_gradients(a, head, first, rows, scratch);
    for (std::int64_t i = 0; i < rows; ++i) {
      const Sum* from = scratch.gradient + i * scratch.padded_keys;
      for (std::int64_t j = 0; j < head.keys; ++j) dbias[i * p.bias_keys + j] += from[j];
    }
  }
}

template <class T>
void backward(const AttentionBackward<T>& a) {
  check_attention_group(a);
  for_each_task(a, attention_backward_chunks(a), [](const auto& item, auto task, auto* workspace) {
    const AttentionProblem<T>& p = item.problem;
    backward_head(item, Head<T>(p, task / p.heads, task % p.heads), workspace);
  });
  for_each_task(a, attention_dbias_chunks(a), [](const auto& item, auto task, auto* workspace) {
    const std::int64_t tiles = attention_dbias_tiles(item.problem);
    dbias_tile(item, task / tiles, task % tiles * kAttentionTile, workspace);
  });
}

const RegisterCpu registered{kIsa,
                             &forward<float>,
                             &forward<double>,
                             &forward<BFloat16>,
                             &backward<float>,
                             &backward<double>,
                             &backward<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
