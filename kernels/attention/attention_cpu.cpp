#include "kernels/attention/attention.h"

#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "core/parallel.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/philox.h"
#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
// Compiled for that instruction set.
#include "kernels/attention/attention_products.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

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

/// The softmax of one query over the keys so far.
template <class T>
struct RunningSoftmax {
  using Vector = typename VectorOf<T>::type;
  T maximum = kMasked<T>;
  Vector sums = {};  ///< parts of the sum

  /// With no logit above -inf, exp(-inf - 0) is 0 throughout. NaN stays NaN.
  T shift() const { return maximum == kMasked<T> ? T{0} : maximum; }
  T sum() const {
    T sum = 0;
    for (std::int64_t i = 0; i < kLanes<T>; ++i) sum += sums[i];
    return sum;
  }

  /// A row's logits, scale scores, in whole panels, become exp(logit - maximum). Returns what the
  /// exponentials of the keys before are to be multiplied by.
  T add(T* scores, std::int64_t padded, T scale) {
    T largest = kMasked<T>;
#pragma omp simd reduction(max : largest)
    for (std::int64_t j = 0; j < padded; ++j) {
      const T x = scale * scores[j];
      largest = x > largest ? x : largest;
    }
    T decay = 1;
    if (largest > maximum) {
      decay = cpu::exp(maximum - largest);
      maximum = largest;
      sums *= decay;
    }
    const T shift = this->shift();
#pragma omp simd
    for (std::int64_t j = 0; j < padded; ++j) scores[j] = cpu::exp(scale * scores[j] - shift);
    Vector even = sums, odd = {};
    for (std::int64_t j = 0; j < padded; j += kPanel<T>) {
      even += *reinterpret_cast<const Vector*>(scores + j);
      odd += *reinterpret_cast<const Vector*>(scores + j + kLanes<T>);
    }
    sums = even + odd;
    return decay;
  }
};

/// Forward for the queries [begin, end) of one (sample, head).
template <class T, template <class> class Products>
struct ForwardPart {
  using Sum = SumOf<T>;
  const AttentionForwardItem<T>& a;
  const AttentionProblem<T>& p;
  const Head<T>& head;
  const std::int64_t begin, end, padded_width;
  Scratch<Sum> scratch;
  Products<T> products;
  Sum* output;                   // [end - begin, padded width]
  Sum* scores;                   // [tile, kAttentionKeys]
  RunningSoftmax<Sum>* softmax;  // [end - begin]

  ForwardPart(const AttentionForwardItem<T>& item, const Head<T>& of, std::int64_t first,
              std::int64_t last, Sum* workspace)
      : a(item),
        p(item.problem),
        head(of),
        begin(first),
        end(last),
        padded_width(padded_columns<Sum>(p.head_width)),
        scratch{workspace},
        products(p, head, begin, end, scratch) {
    const std::int64_t rows = end - begin;
    output = scratch.take(rows * padded_width);
    scores = scratch.take(std::min(rows, kAttentionTile) * kAttentionKeys);
    softmax = reinterpret_cast<RunningSoftmax<Sum>*>(scratch.next);
    std::fill_n(output, rows * padded_width, Sum{0});
    std::uninitialized_fill_n(softmax, rows, RunningSoftmax<Sum>{});
  }

  void run() {
    const std::int64_t visible = head.visible(end - 1, p.causal);
    for (std::int64_t j = 0; j < visible; j += kAttentionKeys) {
      const std::int64_t keys = std::min(kAttentionKeys, head.keys - j);
      products.take_block(j, keys);
      for_each_tile(begin, end, [&](std::int64_t first, std::int64_t rows) {
        if (head.visible(first + rows - 1, p.causal) > j) add_block(first, rows, j, keys);
      });
    }
    for (std::int64_t i = begin; i < end; ++i) finish(i);
  }

  /// A block of keys, seen by a tile of queries.
  void add_block(std::int64_t first, std::int64_t rows, std::int64_t j, std::int64_t keys) {
    products.score(first, rows, scores);
    for (std::int64_t i = 0; i < rows; ++i) weigh(first + i, j, keys, scores + i * kAttentionKeys);
    products.add_values(rows, scores, output + (first - begin) * padded_width);
  }

  /// Query i's scores become weights of the values.
  void weigh(std::int64_t i, std::int64_t j, std::int64_t keys, Sum* row) const {
    const std::int64_t visible = visible_in_block(p, head, i, j, keys);
    const std::int64_t padded = padded_columns<Sum>(keys);
    const Sum scale = to_logits(p, head.head, i, j, visible, padded, row);
    const Sum decay = softmax[i - begin].add(row, padded, scale);
    if (decay != Sum{1}) {
      Sum* of_query = output + (i - begin) * padded_width;
#pragma omp simd
      for (std::int64_t d = 0; d < padded_width; ++d) of_query[d] *= decay;
    }
    if (p.dropout > 0) {
      for_each_mask(p, head.first_query + i, head.head, j, visible,
                    [row](std::int64_t k, Sum mask) { row[k] *= mask; });
    }
    if constexpr (!std::is_same_v<T, Sum> && !Products<T>::kRoundsWeights) {
      for (std::int64_t k = 0; k < visible; ++k) row[k] = as_factor<T>(row[k]);
    }
  }

  void finish(std::int64_t i) const {
    const std::int64_t r = head.first_query + i;
    const RunningSoftmax<Sum>& of_query = softmax[i - begin];
    const Sum sum = of_query.sum(), factor = sum == Sum{0} ? Sum{0} : Sum{1} / sum;
    a.log_sum_exp[r * p.heads + head.head] =
        sum == Sum{0} ? kMasked<Sum> : of_query.shift() + std::log(sum);
    const Sum* from = output + (i - begin) * padded_width;
    Sum* to = a.output + r * p.width() + head.head * p.head_width;
#pragma omp simd
    for (std::int64_t d = 0; d < p.head_width; ++d) to[d] = factor * from[d];
  }
};

/// Queries of a sample below which packing and padding cost more than AMX gains.
constexpr std::int64_t kAmxQueries = 32;

template <class T, bool kAmx = false>
void forward(const AttentionForward<T>& a) {
  check_attention_group(a);
  for_each_task(a, attention_forward_chunks(a), [](const auto& item, auto task, auto* workspace) {
    const AttentionProblem<T>& p = item.problem;
    const std::int64_t rows = attention_part_rows(p), parts = chunk_count(0, p.most_queries, rows);
    const Head<T> head(p, task / parts / p.heads, task / parts % p.heads);
    const std::int64_t begin = task % parts * rows, end = std::min(begin + rows, head.queries);
    if (begin >= end) return;
    if constexpr (kAmx) {
      if (head.queries >= kAmxQueries)
        return ForwardPart<T, AmxProducts>(item, head, begin, end, workspace).run();
    }
    ForwardPart<T, PanelProducts>(item, head, begin, end, workspace).run();
  });
}

/// Backward for the queries [begin, end) of one (sample, head).
template <class T>
struct BackwardPart {
  using Sum = SumOf<T>;
  const AttentionBackwardItem<T>& a;
  const AttentionProblem<T>& p;
  const Head<T>& head;
  std::int64_t begin, end, padded_width;
  Sum* query;          // [end - begin, padded width]
  Sum* doutput;        // [end - begin, padded width]
  Sum* dquery;         // [end - begin, padded width]
  Sum* shift;          // [end - begin]: P = exp(logit - shift)
  Sum* delta;          // [end - begin]: doutput . output
  Sum* key_columns;    // packed [width, a block's keys]
  Sum* value_columns;  // packed [width, a block's keys]
  Sum* copies[2];      // [a block's keys, padded width]
  Sum* dkey;           // [a block's keys, padded width]
  Sum* dvalue;         // [a block's keys, padded width]
  Sum* probability;    // [tile, kAttentionKeys]
  Sum* gradient;       // [tile, kAttentionKeys]

  BackwardPart(const AttentionBackwardItem<T>& item, const Head<T>& of, std::int64_t first,
               std::int64_t last, Sum* workspace)
      : a(item), p(item.problem), head(of), begin(first), end(last) {
    padded_width = padded_columns<Sum>(p.head_width);
    const std::int64_t rows = end - begin, keys = std::min(head.keys, kAttentionKeys);
    Scratch<Sum> scratch{workspace};
    for (Sum** part : {&query, &doutput, &dquery}) *part = scratch.take(rows * padded_width);
    for (Sum** part : {&key_columns, &value_columns})
      *part = scratch.take(padded_columns<Sum>(keys) * p.head_width);
    for (Sum** part : {&copies[0], &copies[1], &dkey, &dvalue})
      *part = scratch.take(keys * padded_width);
    for (Sum** part : {&probability, &gradient})
      *part = scratch.take(std::min(rows, kAttentionTile) * kAttentionKeys);
    for (Sum** part : {&shift, &delta}) *part = scratch.take(rows);
    load_queries();
  }

  void load_queries() const {
    const std::int64_t rows = end - begin, width = p.head_width;
    const std::int64_t at = (head.first_query + begin) * p.width() + head.head * width;
    copy_padded(head.query + begin * p.query_stride, p.query_stride, rows,
                rows_with_panels<Sum>(rows, width, p.query_stride), width, query);
    copy_padded(a.doutput + at, p.width(), rows, rows_with_panels<Sum>(rows, width, p.width()),
                width, doutput);
    std::fill_n(dquery, rows * padded_width, Sum{0});
    for (std::int64_t i = 0; i < rows; ++i) {
      const Sum* output = a.output + at + i * p.width();
      const Sum* own = doutput + i * padded_width;
      Sum sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t d = 0; d < width; ++d) sum += own[d] * output[d];
      delta[i] = sum;
      // An empty row's logits are all -inf or unseen: exp(-inf - 0) = 0.
      const Sum log_sum_exp = a.log_sum_exp[(head.first_query + begin + i) * p.heads + head.head];
      shift[i] = log_sum_exp == kMasked<Sum> ? Sum{0} : log_sum_exp;
    }
  }

  /// Calls f(first key, keys, the block's keys) for each block, whose keys and values are packed.
  template <class F>
  void for_each_block(F&& f) const {
    const bool in_place = end - begin <= kAttentionInPlace;
    for (std::int64_t j = 0; j < head.keys; j += kAttentionKeys) {
      const std::int64_t keys = std::min(kAttentionKeys, head.keys - j);
      const BlockRows<Sum> key(head.key, p.key_stride, p.head_width, head.keys, j, keys, in_place,
                               copies[0]),
          value(head.value, p.value_stride, p.head_width, head.keys, j, keys, true, copies[1]);
      pack_transposed(key, key_columns);
      pack_transposed(value, value_columns);
      f(j, keys, key);
    }
  }

  /// For each tile of queries that sees any of a block of keys: makes `probability` P with its
  /// dropout and `gradient` factor times the derivative by the logits, and calls f(first, rows).
  template <class F>
  void for_each_gradient(std::int64_t j, std::int64_t keys, Sum factor, F&& f) const {
    const std::int64_t padded_keys = padded_columns<Sum>(keys);
    for_each_tile(begin, end, [&](std::int64_t first, std::int64_t rows) {
      if (head.visible(first + rows - 1, p.causal) <= j) return;
      const std::int64_t at = (first - begin) * padded_width;
      multiply<false>(rows, padded_keys, p.head_width, query + at, padded_width, std::int64_t{1},
                      key_columns, probability, kAttentionKeys);
      multiply<false>(rows, padded_keys, p.head_width, doutput + at, padded_width, std::int64_t{1},
                      value_columns, gradient, kAttentionKeys);
      for (std::int64_t i = 0; i < rows; ++i)
        differentiate(first + i, j, keys, factor, probability + i * kAttentionKeys,
                      gradient + i * kAttentionKeys);
      f(first, rows);
    });
  }

  /// One query's row of both.
  void differentiate(std::int64_t i, std::int64_t j, std::int64_t keys, Sum factor, Sum* row,
                     Sum* drow) const {
    const std::int64_t visible = visible_in_block(p, head, i, j, keys);
    const std::int64_t padded = padded_columns<Sum>(keys);
    const Sum scale = to_logits(p, head.head, i, j, visible, padded, row);
    const Sum own_shift = shift[i - begin], own_delta = delta[i - begin];
    if (p.dropout > 0) {
#pragma omp simd
      for (std::int64_t k = 0; k < padded; ++k) row[k] = cpu::exp(scale * row[k] - own_shift);
      for_each_mask(p, head.first_query + i, head.head, j, visible, [=](std::int64_t k, Sum mask) {
        drow[k] = factor * row[k] * (mask * drow[k] - own_delta);
        row[k] *= mask;
      });
    } else {
#pragma omp simd
      for (std::int64_t k = 0; k < padded; ++k) {
        const Sum exponential = cpu::exp(scale * row[k] - own_shift);
        row[k] = exponential;
        drow[k] = factor * exponential * (drow[k] - own_delta);
      }
    }
    std::fill(drow + visible, drow + padded, Sum{0});
  }

  /// Adds a tile's part to the block's dkey and dvalue and the tile's dquery.
  void add_products(std::int64_t first, std::int64_t rows, std::int64_t keys,
                    const BlockRows<Sum>& key) const {
    if constexpr (!std::is_same_v<T, Sum>) {
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t k = i * kAttentionKeys; k < i * kAttentionKeys + keys; ++k) {
          probability[k] = as_factor<T>(probability[k]);
          gradient[k] = as_factor<T>(gradient[k]);
        }
      }
    }
    const std::int64_t at = (first - begin) * padded_width;
    multiply_rows<true>(keys, padded_width, rows, probability, std::int64_t{1}, kAttentionKeys,
                        doutput + at, padded_width, dvalue, padded_width);
    multiply_rows<true>(keys, padded_width, rows, gradient, std::int64_t{1}, kAttentionKeys,
                        query + at, padded_width, dkey, padded_width);
    key.add_product(rows, gradient, kAttentionKeys, dquery + at);
  }
};

template <class T>
void backward_head(const AttentionBackwardItem<T>& a, const Head<T>& head, SumOf<T>* workspace) {
  using Sum = SumOf<T>;
  const AttentionProblem<T>& p = a.problem;
  const std::int64_t width = p.head_width, column = head.head * width;
  const BackwardPart<T> part(a, head, 0, head.queries, workspace);
  part.for_each_block([&](std::int64_t j, std::int64_t keys, const BlockRows<Sum>& key) {
    std::fill_n(part.dkey, keys * part.padded_width, Sum{0});
    std::fill_n(part.dvalue, keys * part.padded_width, Sum{0});
    part.for_each_gradient(j, keys, p.scale, [&](std::int64_t first, std::int64_t rows) {
      part.add_products(first, rows, keys, key);
    });
    const std::int64_t row = head.first_key + j;
    store_rows(part.dkey, keys, width, part.padded_width, a.dkey + row * p.key_stride + column,
               p.key_stride);
    store_rows(part.dvalue, keys, width, part.padded_width,
               a.dvalue + row * p.value_stride + column, p.value_stride);
  });
  store_rows(part.dquery, head.queries, width, part.padded_width,
             a.dquery + head.first_query * p.query_stride + column, p.query_stride);
}

/// The derivative by the bias of the queries [first, first + kAttentionTile) of a head: that by the
/// logits, summed over the samples in order.
template <class T>
void dbias_tile(const AttentionBackwardItem<T>& a, std::int64_t h, std::int64_t first,
                SumOf<T>* workspace) {
  using Sum = SumOf<T>;
  const AttentionProblem<T>& p = a.problem;
  Sum* dbias = a.dbias + h * p.bias_queries * p.bias_keys;
  const std::int64_t last = std::min(first + kAttentionTile, p.bias_queries);
  std::fill(dbias + first * p.bias_keys, dbias + last * p.bias_keys, Sum{0});
  for (std::int64_t s = 0; s < p.samples; ++s) {
    const Head<T> head(p, s, h);
    if (first >= head.queries) continue;
    const BackwardPart<T> part(a, head, first, std::min(last, head.queries), workspace);
    part.for_each_block([&](std::int64_t j, std::int64_t keys, const auto&) {
      part.for_each_gradient(j, keys, Sum{1}, [&](std::int64_t tile, std::int64_t rows) {
        for (std::int64_t i = 0; i < rows; ++i) {
          const Sum* from = part.gradient + i * kAttentionKeys;
          Sum* to = dbias + (tile + i) * p.bias_keys + j;
          for (std::int64_t k = 0; k < keys; ++k) to[k] += from[k];
        }
      });
    });
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
    const std::int64_t tiles = chunk_count(0, item.problem.bias_queries, kAttentionTile);
    dbias_tile(item, task / tiles, task % tiles * kAttentionTile, workspace);
  });
}

/// Beside the variants for AVX-512, whose instructions it uses for all else.
template <Isa isa>
RegisterCpu register_amx() {
  if constexpr (isa == Isa::avx512) {
    return RegisterCpu{Isa::amx, &forward<BFloat16, true>};
  } else {
    return RegisterCpu{isa};
  }
}

const RegisterCpu registered_amx = register_amx<kIsa>();
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
