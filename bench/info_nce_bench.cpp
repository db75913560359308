// InfoNCE's kernels against plain loops. The whole loss: info_nce_loss_bench.cpp.
#include <algorithm>
#include <cmath>

#include "bench/harness.h"
#include "kernels/information/info_nce.h"
#include "kernels/information/pairs.h"
#include "kernels/information/unit_rows.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr float kTemperature = 0.07F;
constexpr float kScale = 1 / kTemperature;  // of cosines: no score is larger

std::vector<float> unit_rows(std::int64_t n, std::int64_t d, std::uint64_t seed) {
  std::vector<float> rows = normals(n * d, seed);
  for (std::int64_t i = 0; i < n; ++i) {
    double square = 0;
    for (std::int64_t k = 0; k < d; ++k) square += rows[i * d + k] * rows[i * d + k];
    for (std::int64_t k = 0; k < d; ++k) rows[i * d + k] /= static_cast<float>(std::sqrt(square));
  }
  return rows;
}

template <class T>
std::vector<T> unit_rows_of(std::int64_t n, std::int64_t d, std::uint64_t seed) {
  if constexpr (std::is_same_v<T, BFloat16>) {
    return bf16_of(unit_rows(n, d, seed));
  } else {
    return unit_rows(n, d, seed);
  }
}

/// Unit rows of T (f32 or bf16), and their scores written out.
template <class T>
struct Problem {
  std::int64_t n, d;
  Array<T> a, b;

  explicit Problem(const benchmark::State& state)
      : n(state.range(0)),
        d(state.range(1)),
        a(unit_rows_of<T>(n, d, 1)),
        b(unit_rows_of<T>(n, d, 2)) {}
  PairScores<T> scores() { return {a.data(), b.data(), n, d, kScale, nullptr}; }
  double score(std::int64_t i, std::int64_t j) const {
    double sum = 0;
    for (std::int64_t k = 0; k < d; ++k) sum += as_double(a[i * d + k]) * as_double(b[j * d + k]);
    return kScale * sum;
  }
  /// All would take minutes.
  std::vector<std::int64_t> checked() const { return {0, n / 2, n - 1}; }
};

template <class T>
void pair_sums(benchmark::State& state) {
  Problem<T> p(state);
  Array<float> diagonal(p.n), row_largest(p.n), column_largest(p.n),
      workspace(PairSums<T>::workspace_size(p.n));
  Array<double> row_sum(p.n), column_sum(p.n), partial(PairSums<T>::partial_size(p.n));
  const PairSums<T> args{p.scores(),       diagonal.data(),       row_largest.data(),
                         row_sum.data(),   column_largest.data(), column_sum.data(),
                         workspace.data(), partial.data()};
  measure(state, args, [&] {
    std::vector<double> actual, expected;
    row_largest.fetch(), row_sum.fetch(), column_largest.fetch(), column_sum.fetch();
    for (const std::int64_t i : p.checked()) {
      double row = 0, column = 0;
      for (std::int64_t j = 0; j < p.n; ++j) {
        if (i != j) row += std::exp(p.score(i, j)), column += std::exp(p.score(j, i));
      }
      expected.insert(expected.end(), {std::log(row), std::log(column)});
      actual.insert(actual.end(), {row_largest[i] + std::log(row_sum[i]),
                                   column_largest[i] + std::log(column_sum[i])});
    }
    return agree(state, actual, expected, 1e-4);
  });
}

/// Shifts of 0, so that the pairs weigh as much as the diagonal does.
template <class T>
void pair_gradient(benchmark::State& state) {
  Problem<T> p(state);
  const std::int64_t n = p.n, d = p.d;
  Array<float> weight(normals(n, 3)), shift(n), diagonal(normals(n, 4)), da(n * d), db(n * d),
      workspace(PairGradient<T>::workspace_size(device(), n, d));
  const PairGradient<T> args{p.scores(),    weight.data(), shift.data(),
                             weight.data(), shift.data(),  diagonal.data(),
                             da.data(),     db.data(),     workspace.data()};
  measure(state, args, [&] {
    std::vector<double> actual, expected(6 * d), magnitude(6 * d);
    da.fetch(), db.fetch();
    std::int64_t to = 0;
    const auto add = [&](std::int64_t at, double term) {
      expected[at] += term;
      magnitude[at] += std::abs(term);
    };
    for (const std::int64_t i : p.checked()) {
      for (std::int64_t j = 0; j < n; ++j) {
        const double pull = double{weight[i]} + weight[j], own = diagonal[i];
        const double da_weight = i == j ? own : pull * std::exp(p.score(i, j));
        const double db_weight = i == j ? own : pull * std::exp(p.score(j, i));
        for (std::int64_t k = 0; k < d; ++k) {
          add(to + k, kScale * da_weight * as_double(p.b[j * d + k]));
          add(to + d + k, kScale * db_weight * as_double(p.a[j * d + k]));
        }
      }
      actual.insert(actual.end(), da.begin() + i * d, da.begin() + (i + 1) * d);
      actual.insert(actual.end(), db.begin() + i * d, db.begin() + (i + 1) * d);
      to += 2 * d;
    }
    // The weights are rounded to bf16; in f32 the scores are off by up to 2^-21 kScale.
    return agree(state, actual, expected,
                 (std::is_same_v<T, BFloat16> ? 0x1p-8 : 1e-5) * std::ranges::max(magnitude));
  });
}

/// Scores of which the diagonal is its normals and the others' sums are 5 exp(2).
struct Sums {
  std::int64_t n;
  Array<float> diagonal, largest;
  Array<double> sum;

  explicit Sums(std::int64_t count)
      : n(count),
        diagonal(normals(n, 1)),
        largest(std::vector<float>(n, 2)),
        sum(std::vector<double>(n, 5)) {}
  PairTotals<float> totals() {
    return {diagonal.data(), largest.data(), sum.data(), largest.data(), sum.data(), n};
  }
  double others() const { return 5 * std::exp(2.0); }
};

void info_nce_forward(benchmark::State& state) {
  Sums sums(state.range(0));
  Array<float> losses(sums.n);
  measure(state, InfoNceForward<float>{sums.totals(), losses.data()}, [&] {
    std::vector<double> expected;
    for (const float own : sums.diagonal) {
      expected.push_back(std::log(std::exp(double{own}) + sums.others()) - own);
    }
    return agree(state, losses, expected, 1e-5);
  });
}

void info_nce_backward(benchmark::State& state) {
  Sums sums(state.range(0));
  Array<float> cotangent(normals(sums.n, 2)), weight(sums.n), shift(sums.n), column_weight(sums.n),
      column_shift(sums.n), diagonal(sums.n);
  const InfoNceBackward<float> args{sums.totals(),  cotangent.data(),     weight.data(),
                                    shift.data(),   column_weight.data(), column_shift.data(),
                                    diagonal.data()};
  measure(state, args, [&] {
    std::vector<double> expected;
    for (std::int64_t i = 0; i < sums.n; ++i) {
      const double own = std::exp(double{sums.diagonal[i]});
      expected.push_back(cotangent[i] * (own / (own + sums.others()) - 1));
    }
    return agree(state, diagonal, expected, 1e-5);
  });
}

void unit_rows_forward(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Array<float> x(normals(rows * width, 1)), y(rows * width);
  Array<double> inverse(rows);
  const UnitRowsForward<float> args{x.data(), y.data(), inverse.data(), rows, width};
  measure(state, args, [&] { return agree(state, y, unit_rows(rows, width, 1), 1e-6); });
}

void unit_rows_backward(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Array<float> y(unit_rows(rows, width, 1)), dy(normals(rows * width, 2)), dx(rows * width);
  Array<double> inverse(std::vector<double>(rows, 0.5));
  const UnitRowsBackward<float> args{y.data(), inverse.data(), dy.data(), dx.data(), rows, width};
  measure(state, args, [&] {
    std::vector<double> expected(rows * width);
    for (std::int64_t i = 0; i < rows; ++i) {
      double along = 0;
      for (std::int64_t e = i * width; e < (i + 1) * width; ++e) along += double{dy[e]} * y[e];
      for (std::int64_t e = i * width; e < (i + 1) * width; ++e) {
        expected[e] = 0.5 * (dy[e] - along * y[e]);
      }
    }
    return agree(state, dx, expected, 1e-5);
  });
}

const Table kPairTable{
    {"N", "d"}, {{130, 20}, {1024, 64}}, {{32768, 256}}, {{8192, 64}, {8192, 256}}};
const Table kBf16Table = [] {
  Table table = kPairTable;
  table.gpu.clear();
  for (const std::int64_t n : {4096, 32768, 131072}) {
    for (const std::int64_t d : {128, 256, 512}) table.gpu.push_back({n, d});
  }
  return table;
}();
const Table kSampleTable{{"N"}, {{300}, {8192}}, {{1 << 22}}};
const Table kRowTable{{"N", "d"}, {{130, 20}, {8192, 256}}, {{131072, 256}}};
const Register registered{{
    kernel<PairSums<float>>(kPairTable, pair_sums<float>),
    kernel<PairGradient<float>>(kPairTable, pair_gradient<float>),
    kernel<PairSums<BFloat16>>(kBf16Table, pair_sums<BFloat16>),
    kernel<PairGradient<BFloat16>>(kBf16Table, pair_gradient<BFloat16>),
    kernel<InfoNceForward<float>>(kSampleTable, info_nce_forward),
    kernel<InfoNceBackward<float>>(kSampleTable, info_nce_backward),
    reference<InfoNceForward<float>>(kSampleTable, info_nce_forward),
    reference<InfoNceBackward<float>>(kSampleTable, info_nce_backward),
    kernel<UnitRowsForward<float>>(kRowTable, unit_rows_forward),
    kernel<UnitRowsBackward<float>>(kRowTable, unit_rows_backward),
    reference<UnitRowsBackward<float>>(kRowTable, unit_rows_backward),
}};

}  // namespace
}  // namespace cmir::kernels
