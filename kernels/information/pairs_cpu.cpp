#include "kernels/information/pairs.h"

#include <limits>

#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
// After it:
#include "kernels/information/pair_products.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kAmxFeatures = 32;  // below, packing and padding cost more than AMX gains

template <class T>
constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();
template <class T>
T finite_or_zero(T largest) {
  return largest == kMinusInfinity<T> ? T{0} : largest;
}

/// A group of columns cut into tiles of equal width; one thread's work.
template <class T>
struct Group {
  std::int64_t n, begin, end;
  SumOf<T>* tile_scores;

  std::int64_t tile_width() const {
    const std::int64_t tiles = chunk_count(begin, end, kPairColumns);
    return ((end - begin + tiles - 1) / tiles + 15) / 16 * 16;
  }
  Tile<SumOf<T>> tile(std::int64_t row, std::int64_t column) const {
    return {tile_scores, row, column, std::min(kPairRows, n - row),
            std::min(tile_width(), end - column)};
  }
};

/// f(group, its number) for each group, in parallel. `tiles` has room for a tile of each.
template <class T, class F>
void for_each_group(std::int64_t n, SumOf<T>* tiles, F&& f) {
  const std::int64_t width = pair_group(n);
  parallel_for(0, n, width, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t number = begin / width;
    f(Group<T>{n, begin, end, tiles + number * pair_tile_size(n)}, number);
  });
}

template <class T>
T largest_of(const T* x, std::int64_t count) {
  T largest = kMinusInfinity<T>;
#pragma omp simd reduction(max : largest)
  for (std::int64_t j = 0; j < count; ++j) largest = x[j] > largest ? x[j] : largest;
  return largest;
}
template <class T>
T smallest_of(const T* x, std::int64_t count) {  // -inf, the masked diagonal, does not count
  T smallest = -kMinusInfinity<T>;
#pragma omp simd reduction(min : smallest)
  for (std::int64_t j = 0; j < count; ++j) {
    const T value = x[j] == kMinusInfinity<T> ? -kMinusInfinity<T> : x[j];
    smallest = value < smallest ? value : smallest;
  }
  return smallest;
}

/// The largest score of a tile whose scores lie within kPairRange of each other; else NaN.
template <class T>
T shared_reference(const Tile<T>& tile) {
  T largest = kMinusInfinity<T>, smallest = -kMinusInfinity<T>;
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    largest = std::max(largest, largest_of(tile[i], tile.columns));
    smallest = std::min(smallest, smallest_of(tile[i], tile.columns));
  }
  const bool near = largest > kMinusInfinity<T> && largest - smallest <= T{kPairRange};
  return near ? largest : std::numeric_limits<T>::quiet_NaN();
}

/// Running sums of exp, each sum times exp(largest).
template <class T>
struct Totals {
  T* largest;
  double* sum;

  Totals from(std::int64_t begin) const { return {largest + begin, sum + begin}; }
  void clear(std::int64_t count) const {
    std::fill_n(largest, count, kMinusInfinity<T>);
    std::fill_n(sum, count, 0.0);
  }
  /// Adds others of the same form.
  template <class Sum>
  void add(const T* other_largest, const Sum* other_sum, std::int64_t count) const {
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
      const T reference = other_largest[i] > largest[i] ? other_largest[i] : largest[i];
      const T shift = finite_or_zero(reference);
      sum[i] = sum[i] * static_cast<double>(cpu::exp(largest[i] - shift)) +
               static_cast<double>(other_sum[i]) *
                   static_cast<double>(cpu::exp(other_largest[i] - shift));
      largest[i] = reference;
    }
  }
};

/// What a tile adds to its rows' and columns' totals.
template <class T>
struct TileSums {
  T row_largest[kPairRows], column_largest[kPairColumns];
  alignas(64) T row_sum[kPairRows], column_sum[kPairColumns];

  void add_rows(const Tile<T>& tile) {
    for (std::int64_t i = 0; i < tile.rows; ++i) {
      const T* s = tile[i];
      row_largest[i] = largest_of(s, tile.columns);
      const T shift = finite_or_zero(row_largest[i]);
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t j = 0; j < tile.columns; ++j) sum += cpu::exp(s[j] - shift);
      row_sum[i] = sum;
    }
  }
  void add_columns(const Tile<T>& tile) {
    std::fill_n(column_largest, tile.columns, kMinusInfinity<T>);
    std::fill_n(column_sum, tile.columns, T{0});
    T* largest = column_largest;
    for (std::int64_t i = 0; i < tile.rows; ++i) {
      const T* s = tile[i];
#pragma omp simd
      for (std::int64_t j = 0; j < tile.columns; ++j) {
        largest[j] = s[j] > largest[j] ? s[j] : largest[j];
      }
    }
    for (std::int64_t i = 0; i < tile.rows; ++i) {
      const T* s = tile[i];
      T* sums = column_sum;
#pragma omp simd
      for (std::int64_t j = 0; j < tile.columns; ++j) {
        sums[j] += cpu::exp(s[j] - finite_or_zero(largest[j]));
      }
    }
  }
  void add_both(const Tile<T>& tile, T reference) {
    std::fill_n(row_largest, tile.rows, reference);
    std::fill_n(column_largest, tile.columns, reference);
    std::fill_n(column_sum, tile.columns, T{0});
    for (std::int64_t i = 0; i < tile.rows; ++i) {
      const T* s = tile[i];
      T *sums = column_sum, sum = 0;
#pragma omp simd reduction(+ : sum)
      for (std::int64_t j = 0; j < tile.columns; ++j) {
        const T e = cpu::exp(s[j] - reference);
        sum += e;
        sums[j] += e;
      }
      row_sum[i] = sum;
    }
    // A row or column of which only the masked diagonal is here has no largest score.
    for (std::int64_t i = 0; i < tile.rows; ++i)
      if (row_sum[i] == 0) row_largest[i] = kMinusInfinity<T>;
    for (std::int64_t j = 0; j < tile.columns; ++j)
      if (column_sum[j] == 0) column_largest[j] = kMinusInfinity<T>;
  }
  void add(const Tile<T>& tile, bool columns) {
    const T reference = columns ? shared_reference(tile) : std::numeric_limits<T>::quiet_NaN();
    if (!std::isnan(reference)) return add_both(tile, reference);
    add_rows(tile);
    if (columns) add_columns(tile);
  }
};

/// A tile's place in [n, n] scores.
template <class T>
void keep(const Tile<T>& tile, T* kept, std::int64_t n) {
  for (std::int64_t i = 0; i < tile.rows; ++i)
    std::copy_n(tile[i], tile.columns, kept + (tile.row + i) * n + tile.column);
}
template <class T>
void recall(const T* kept, std::int64_t n, const Tile<T>& tile) {
  for (std::int64_t i = 0; i < tile.rows; ++i)
    std::copy_n(kept + (tile.row + i) * n + tile.column, tile.columns, tile[i]);
}

/// The group's sums of its columns, and of all rows to `rows`.
template <template <class> class Products, class T>
void sum_group(const PairSums<T>& a, const Group<T>& group, const Totals<SumOf<T>>& rows) {
  Products<T> products(a.scores, group.tile_width(), false, false);
  const std::int64_t n = a.scores.n;
  const Totals<SumOf<T>> columns{a.column_largest, a.column_sum};
  const bool has_columns = a.column_largest != nullptr;
  rows.clear(n);
  if (has_columns) columns.from(group.begin).clear(group.end - group.begin);
  for (std::int64_t column = group.begin; column < group.end; column += group.tile_width()) {
    for (std::int64_t row = 0; row < n; row += kPairRows) {
      const Tile<SumOf<T>> tile = group.tile(row, column);
      products.score(tile);
      if (a.kept != nullptr) keep(tile, a.kept, n);
      tile.for_diagonal([&](std::int64_t g, SumOf<T>& score) {
        a.diagonal[g] = score;
        score = kMinusInfinity<SumOf<T>>;
      });
      TileSums<SumOf<T>> sums;
      sums.add(tile, has_columns);
      rows.from(row).add(sums.row_largest, sums.row_sum, tile.rows);
      if (!has_columns) continue;
      columns.from(column).add(sums.column_largest, sums.column_sum, tile.columns);
    }
  }
}

template <template <class> class Products, class T>
void pair_sums(const PairSums<T>& a) {
  const std::int64_t n = a.scores.n, groups = pair_groups(n);
  const Totals<SumOf<T>> parts{a.workspace + groups * pair_tile_size(n), a.partial};
  for_each_group<T>(n, a.workspace, [&](const Group<T>& group, std::int64_t number) {
    sum_group<Products>(a, group, parts.from(number * n));
  });
  parallel_for(0, n, 1024, [&](std::int64_t begin, std::int64_t end) {
    const Totals<SumOf<T>> rows{a.row_largest + begin, a.row_sum + begin};
    rows.clear(end - begin);
    for (std::int64_t number = 0; number < groups; ++number) {
      const Totals<SumOf<T>> part = parts.from(number * n + begin);
      rows.add(part.largest, part.sum, end - begin);
    }
  });
}

/// exp(x), and no less than about eps^4: less would become a denormal number with its weight, if
/// not by itself, and work with those is an order of magnitude slower.
template <class T>
[[gnu::always_inline]] inline T bounded_exp(T x) {
  constexpr T kSmallest = std::is_same_v<T, float> ? T(-64) : T(-144);
  return cpu::exp(x < kSmallest ? kSmallest : x);
}

/// The weights of a tile's columns, with their cotangents.
template <class T>
struct ColumnWeights {
  alignas(64) SumOf<T> values[kPairColumns];

  ColumnWeights(const PairGradient<T>& a, const Tile<SumOf<T>>& tile) {
    for (std::int64_t j = 0; j < tile.columns && a.column_weight != nullptr; ++j) {
      const std::int64_t g = tile.column + j;
      values[j] = a.column_weight[g] * a.cotangent_of(g);
    }
  }
};

/// A tile's scores become dS, each sum's exp by itself.
template <class T>
void weigh_apart(const PairGradient<T>& a, const Tile<SumOf<T>>& tile) {
  const ColumnWeights<T> weights(a, tile);
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    SumOf<T>* s = tile[i];
    const std::int64_t g = tile.row + i;
    const SumOf<T> weight = a.row_weight[g] * a.cotangent_of(g), shift = a.row_shift[g];
    if (a.column_weight) {
      const SumOf<T>* shifts = a.column_shift + tile.column;
#pragma omp simd
      for (std::int64_t j = 0; j < tile.columns; ++j) {
        s[j] =
            weight * bounded_exp(s[j] - shift) + weights.values[j] * bounded_exp(s[j] - shifts[j]);
      }
    } else {
#pragma omp simd
      for (std::int64_t j = 0; j < tile.columns; ++j) s[j] = weight * bounded_exp(s[j] - shift);
    }
  }
}

/// The same with one exp for both, relative to `reference`.
template <class T>
void weigh_both(const PairGradient<T>& a, const Tile<SumOf<T>>& tile, SumOf<T> reference) {
  ColumnWeights<T> of_columns(a, tile);
  const SumOf<T>* shifts = a.column_shift + tile.column;
#pragma omp simd
  for (std::int64_t j = 0; j < tile.columns; ++j) {
    of_columns.values[j] *= cpu::exp(reference - shifts[j]);
  }
  for (std::int64_t i = 0; i < tile.rows; ++i) {
    const std::int64_t g = tile.row + i;
    const SumOf<T> of_row =
        a.row_weight[g] * a.cotangent_of(g) * cpu::exp(reference - a.row_shift[g]);
    SumOf<T>* s = tile[i];
#pragma omp simd
    for (std::int64_t j = 0; j < tile.columns; ++j) {
      s[j] = cpu::exp(s[j] - reference) * (of_row + of_columns.values[j]);
    }
  }
}

template <class T>
void weigh(const PairGradient<T>& a, const Tile<SumOf<T>>& tile) {
  tile.for_diagonal([](std::int64_t, SumOf<T>& score) { score = kMinusInfinity<SumOf<T>>; });
  const SumOf<T> reference =
      a.column_weight ? shared_reference(tile) : std::numeric_limits<SumOf<T>>::quiet_NaN();
  std::isnan(reference) ? weigh_apart(a, tile) : weigh_both(a, tile, reference);
  tile.for_diagonal(
      [&](std::int64_t g, SumOf<T>& score) { score = a.diagonal_weight[g] * a.cotangent_of(g); });
}

/// Adds the scores of the group's columns and of the band's rows, [band, end), to db; leaves what
/// they add to da in `part`.
template <template <class> class Products, class T>
void differentiate_group(const PairGradient<T>& a, const Group<T>& group, std::int64_t band,
                         std::int64_t end, SumOf<T>* part) {
  const std::int64_t d = a.scores.d;
  Products<T> products(a.scores, group.tile_width(), a.da != nullptr, a.db != nullptr);
  for (std::int64_t column = group.begin; column < group.end; column += group.tile_width()) {
    for (std::int64_t row = band; row < end; row += kPairRows) {
      const Tile<SumOf<T>> tile = group.tile(row, column);
      a.kept != nullptr ? recall(a.kept, a.scores.n, tile) : products.score(tile);
      weigh(a, tile);
      products.differentiate(tile, {.da = a.da ? part + (row - band) * d : nullptr,
                                    .add_da = column > group.begin,
                                    .db = a.db ? a.db + column * d : nullptr,
                                    .add_db = row > 0});
    }
  }
}

/// to = the sum of the groups' parts of `size` elements, in their order.
template <class T>
void add_parts(const T* parts, std::int64_t groups, std::int64_t part, std::int64_t size, T* to) {
  parallel_for(0, size, 8192, [&](std::int64_t begin, std::int64_t end) {
    std::copy(parts + begin, parts + end, to + begin);
    for (std::int64_t number = 1; number < groups; ++number) {
      const T* const from = parts + number * part;
#pragma omp simd
      for (std::int64_t e = begin; e < end; ++e) to[e] += from[e];
    }
  });
}

template <template <class> class Products, class T>
void pair_gradient(const PairGradient<T>& a) {
  const std::int64_t n = a.scores.n, d = a.scores.d, groups = pair_groups(n);
  SumOf<T>* const parts = a.workspace + groups * pair_tile_size(n);
  const std::int64_t part = std::min(n, kPairBand) * d;
  for (std::int64_t band = 0; band < n; band += kPairBand) {
    const std::int64_t end = std::min(band + kPairBand, n);
    for_each_group<T>(n, a.workspace, [&](const Group<T>& group, std::int64_t number) {
      differentiate_group<Products>(a, group, band, end, parts + number * part);
    });
    if (a.da) add_parts(parts, groups, part, (end - band) * d, a.da + band * d);
  }
}

/// The sums and the gradient on AMX tiles, where there are enough features to fill them.
template <class T>
void amx_pair_sums(const PairSums<T>& a) {
  a.scores.d < kAmxFeatures ? pair_sums<BlasProducts>(a) : pair_sums<AmxProducts>(a);
}
template <class T>
void amx_pair_gradient(const PairGradient<T>& a) {
  a.scores.d < kAmxFeatures ? pair_gradient<BlasProducts>(a) : pair_gradient<AmxProducts>(a);
}
/// Beside the variants for AVX-512, whose instructions they use for all else.
template <Isa isa>
RegisterCpu register_amx() {
  if constexpr (isa == Isa::avx512) {
    return RegisterCpu{Isa::amx, &amx_pair_sums<float>, &amx_pair_sums<BFloat16>,
                       &amx_pair_gradient<float>, &amx_pair_gradient<BFloat16>};
  } else {
    return RegisterCpu{isa};
  }
}

const RegisterCpu registered{kIsa,
                             &pair_sums<BlasProducts, float>,
                             &pair_sums<BlasProducts, double>,
                             &pair_sums<BlasProducts, BFloat16>,
                             &pair_gradient<BlasProducts, float>,
                             &pair_gradient<BlasProducts, double>,
                             &pair_gradient<BlasProducts, BFloat16>};
const RegisterCpu registered_amx = register_amx<kIsa>();

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
