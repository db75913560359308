// What the CPU's attention forward and backward share. Include it after kernels/cpu/isa_begin.h: it
// is compiled for the instruction set of the including file.
//
// A task walks over the keys in blocks, and over its queries in tiles: a tile of scores, queries by
// a block of keys, stays in the first-level cache. Where features are summed over, a block's rows
// of keys (or values) are transposed and packed for the products of small_matrix.h.
#include "kernels/attention/attention.h"
#include "kernels/cpu/small_matrix.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
constexpr T kMasked = -std::numeric_limits<T>::infinity();

/// Hands out parts of a chunk's workspace.
template <class T>
struct Scratch {
  T* next;
  T* take(std::int64_t count) { return std::exchange(next, next + count); }
};

/// One head of one sample: pointers to its first row and the numbers of its rows.
template <class T>
struct Head {
  const T* query;
  const T* key;
  const T* value;
  std::int64_t head;
  std::int64_t first_query, queries, first_key, keys;

  Head(const AttentionProblem<T>& p, std::int64_t s, std::int64_t h)
      : query(p.query + p.query_begins[s] * p.query_stride + h * p.head_width),
        key(p.key + p.key_begins[s] * p.key_stride + h * p.head_width),
        value(p.value + p.key_begins[s] * p.value_stride + h * p.head_width),
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

/// Calls f(first, rows) for tiles of almost equal size of the queries [begin, end).
template <class F>
void for_each_tile(std::int64_t begin, std::int64_t end, F&& f) {
  const std::int64_t tiles = chunk_count(begin, end, kAttentionTile);
  if (tiles == 0) return;
  const std::int64_t rows = ((end - begin + tiles - 1) / tiles + 5) / 6 * 6;
  for (std::int64_t first = begin; first < end; first += rows)
    f(first, std::min(rows, end - first));
}

/// x as a factor of a product: rounded to bf16 where the problem's arrays are.
template <class T>
[[gnu::always_inline]] inline SumOf<T> as_factor(SumOf<T> x) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return static_cast<float>(BFloat16(x));
  } else {
    return x;
  }
}

/// Asks for a row of a head that will be read (or written) soon: the rows of a head are far apart,
/// which the hardware's own prefetching does not follow.
template <bool kWrite, class T>
[[gnu::always_inline]] inline void prefetch_row(const T* row, std::int64_t width) {
  for (std::int64_t d = 0; d < width; d += 64 / static_cast<std::int64_t>(sizeof(T)))
    __builtin_prefetch(row + d, kWrite ? 1 : 0);
  __builtin_prefetch(row + width - 1, kWrite ? 1 : 0);
}
constexpr std::int64_t kPrefetchRows = 16;  // as far ahead

/// A head's rows of a result, from rows that are `from_stride` apart.
template <class T>
void store_rows(const T* from, std::int64_t rows, std::int64_t width, std::int64_t from_stride,
                T* to, std::int64_t to_stride) {
  for (std::int64_t r = 0; r < rows; ++r) {
    prefetch_row<true>(to + std::min(r + kPrefetchRows, rows - 1) * to_stride, width);
    std::copy_n(from + r * from_stride, width, to + r * to_stride);
  }
}

/// The first rows of a matrix behind each of which the memory, up to whole panels, is certain to be
/// the matrix's own too.
template <class Sum>
std::int64_t rows_with_panels(std::int64_t rows, std::int64_t width, std::int64_t stride) {
  const std::int64_t beyond = padded_columns<Sum>(width) - width;
  return std::max<std::int64_t>(0, rows - (beyond + stride - 1) / stride);
}

/// Copies rows into whole panels, converted, their rows padded_columns(width) apart. `whole` rows
/// are copied with what is behind them, which products keep to columns of its own; the others are
/// filled up with 0.
template <class T, class Sum>
void copy_padded(const T* from, std::int64_t stride, std::int64_t rows, std::int64_t whole,
                 std::int64_t width, Sum* to) {
  const std::int64_t padded = padded_columns<Sum>(width);
  for (std::int64_t r = 0; r < std::min(rows, whole); ++r) {
    for (std::int64_t d = 0; d < padded; d += kPanel<Sum>) {
      for (std::int64_t c = 0; c < kPanel<Sum>; ++c)
        to[r * padded + d + c] = static_cast<Sum>(from[r * stride + d + c]);
    }
  }
  for (std::int64_t r = std::min(rows, whole); r < rows; ++r) {
    for (std::int64_t d = 0; d < padded; ++d)
      to[r * padded + d] = d < width ? static_cast<Sum>(from[r * stride + d]) : Sum{0};
  }
}

/// A block of a head's keys or values: `own` rows where they lie, the others copied. All can be
/// read in whole panels.
template <class Sum>
struct BlockRows {
  const Sum* rows;
  const Sum* copies;
  std::int64_t stride, width, count, own;

  /// Block [first, first + keys) of the head's `all` rows. Not `in_place`: all are copied.
  template <class T>
  BlockRows(const T* head, std::int64_t head_stride, std::int64_t columns, std::int64_t all,
            std::int64_t first, std::int64_t keys, bool in_place, Sum* copy)
      : rows(nullptr), copies(copy), stride(head_stride), width(columns), count(keys), own(0) {
    const T* from = head + first * stride;
    const std::int64_t whole = rows_with_panels<Sum>(all - first, width, stride);
    if constexpr (std::is_same_v<T, Sum>) {
      rows = from;
      if (in_place) own = std::min(keys, whole);
    }
    copy_padded(from + own * stride, stride, keys - own, whole - own, width, copy);
  }

  const Sum* row(std::int64_t r) const {
    return r < own ? rows + r * stride : copies + (r - own) * padded_columns<Sum>(width);
  }

  /// c [count_of_rows, padded width] += a times these rows, a(i, k) = a[i * row_stride + k].
  void add_product(std::int64_t count_of_rows, const Sum* a, std::int64_t row_stride,
                   Sum* c) const {
    const std::int64_t padded = padded_columns<Sum>(width);
    if (own > 0)
      multiply_rows<true>(count_of_rows, padded, own, a, row_stride, std::int64_t{1}, rows, stride,
                          c, padded);
    if (own < count)
      multiply_rows<true>(count_of_rows, padded, count - own, a + own, row_stride, std::int64_t{1},
                          copies, padded, c, padded);
  }
};

/// Elements of a and b in turn: those of their lower halves, or of their upper.
template <class T, int... I>
[[gnu::always_inline]] inline void interleave(typename VectorOf<T>::type& a,
                                              typename VectorOf<T>::type& b,
                                              std::integer_sequence<int, I...>) {
  using Vector = typename VectorOf<T>::type;
  constexpr int kCount = sizeof...(I);
  const Vector low = __builtin_shufflevector(a, b, (I / 2 + I % 2 * kCount)...);
  const Vector high = __builtin_shufflevector(a, b, (kCount / 2 + I / 2 + I % 2 * kCount)...);
  a = low;
  b = high;
}

/// A square of vectors transposed: log2(lanes) perfect shuffles of all its elements.
template <class T>
void transpose(typename VectorOf<T>::type (&v)[kLanes<T>]) {
  using Vector = typename VectorOf<T>::type;
  constexpr int kCount = static_cast<int>(kLanes<T>);
#pragma GCC unroll 4
  for (int round = 1; round < kCount; round *= 2) {
    Vector shuffled[kCount];
#pragma GCC unroll 16
    for (int i = 0; i < kCount / 2; ++i) {
      Vector a = v[i], b = v[i + kCount / 2];
      interleave<T>(a, b, std::make_integer_sequence<int, kCount>{});
      shuffled[2 * i] = a;
      shuffled[2 * i + 1] = b;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) v[i] = shuffled[i];
  }
}

/// The transpose [width, rows] of a block, packed.
template <class T>
void pack_transposed(const BlockRows<T>& block, T* packed) {
  using Vector = typename VectorOf<T>::type;
  const std::int64_t rows = block.count, width = block.width;
  for (std::int64_t r = 0; r < padded_columns<T>(rows); r += kLanes<T>) {
    T* column = packed + r / kPanel<T> * kPanel<T> * width + r % kPanel<T>;
    for (std::int64_t i = r + kLanes<T>; i < std::min(r + 2 * kLanes<T>, block.own); ++i)
      prefetch_row<false>(block.rows + i * block.stride, width);
    for (std::int64_t d = 0; d < width; d += kLanes<T>) {
      Vector square[kLanes<T>];
      for (std::int64_t i = 0; i < kLanes<T>; ++i) {
        square[i] =
            r + i < rows ? *reinterpret_cast<const Vector*>(block.row(r + i) + d) : Vector{};
      }
      transpose<T>(square);
      for (std::int64_t i = 0; i < std::min(kLanes<T>, width - d); ++i)
        *reinterpret_cast<Vector*>(column + (d + i) * kPanel<T>) = square[i];
    }
  }
}

/// Calls f(j, m) for the keys first <= first + j < first + count of query row r and head h, m being
/// 0 for a dropped key and 1 / (1 - dropout) for a kept one. `first` is a multiple of 32.
template <class T, class F>
void for_each_mask(const AttentionProblem<T>& p, std::int64_t r, std::int64_t h, std::int64_t first,
                   std::int64_t count, F&& f) {
  using Sum = SumOf<T>;
  const Sum keep = Sum{1} / (Sum{1} - static_cast<Sum>(p.dropout));
  const auto threshold =
      static_cast<std::int32_t>(std::ceil(p.dropout * 0x1p24F));  // uniform < dropout, in integers
  const std::uint64_t block = static_cast<std::uint64_t>(r * p.heads + h) << 22;
  for (std::int64_t j0 = 0; j0 < count; j0 += 32) {
    std::uint32_t words[32];
    cpu::philox_words<8>(p.stream, block + static_cast<std::uint64_t>(first + j0) / 4, words);
    const std::int64_t lanes = std::min<std::int64_t>(32, count - j0);
#pragma omp simd
    for (std::int64_t j = 0; j < lanes; ++j) {
      f(j0 + j, static_cast<std::int32_t>(words[j] >> 8) < threshold ? Sum{0} : keep);
    }
  }
}

/// The keys of the block [first, first + keys) that query i sees.
template <class T>
std::int64_t visible_in_block(const AttentionProblem<T>& p, const Head<T>& head, std::int64_t i,
                              std::int64_t first, std::int64_t keys) {
  return std::clamp<std::int64_t>(head.visible(i, p.causal) - first, 0, keys);
}

/// The scores q.k of query i and the keys from `first` on become logits but for the factor that is
/// returned; those past the `visible` ones, up to `padded`, -inf.
template <class T>
SumOf<T> to_logits(const AttentionProblem<T>& p, std::int64_t head, std::int64_t i,
                   std::int64_t first, std::int64_t visible, std::int64_t padded,
                   SumOf<T>* scores) {
  using Sum = SumOf<T>;
  std::fill(scores + visible, scores + padded, kMasked<Sum>);
  if (p.bias == nullptr) return p.scale;
  const Sum* bias = p.bias + (head * p.bias_queries + i) * p.bias_keys + first;
  const Sum scale = p.scale;
#pragma omp simd
  for (std::int64_t j = 0; j < visible; ++j) scores[j] = scale * scores[j] + bias[j];
  return Sum{1};
}

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
