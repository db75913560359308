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

/// The sums of all pairs, both ways, and where they are kept.
template <class T>
struct Sums {
  Array<float> diagonal, row_largest, column_largest, workspace;
  Array<double> row_sum, column_sum, partial;

  explicit Sums(std::int64_t n)
      : diagonal(n),
        row_largest(n),
        column_largest(n),
        workspace(PairSums<T>::workspace_size(n)),
        row_sum(n),
        column_sum(n),
        partial(PairSums<T>::partial_size(n)) {}
  PairSums<T> args(Problem<T>& p) {
    return {p.scores(),       diagonal.data(),       row_largest.data(),
            row_sum.data(),   column_largest.data(), column_sum.data(),
            workspace.data(), partial.data()};
  }
};
/// ln of the sums of exp over row i, and over column i, without the diagonal.
template <class T>
std::pair<double, double> log_sums(Problem<T>& p, std::int64_t i) {
  double row = 0, column = 0;
  for (std::int64_t j = 0; j < p.n; ++j) {
    if (i != j) row += std::exp(p.score(i, j)), column += std::exp(p.score(j, i));
  }
  return {std::log(row), std::log(column)};
}

template <class T>
void pair_sums(benchmark::State& state) {
  Problem<T> p(state);
  Sums<T> sums(p.n);
  measure(state, sums.args(p), [&] {
    std::vector<double> actual, expected;
    sums.row_largest.fetch(), sums.row_sum.fetch();
    sums.column_largest.fetch(), sums.column_sum.fetch();
    for (const std::int64_t i : p.checked()) {
      const auto [row, column] = log_sums(p, i);
      expected.insert(expected.end(), {row, column});
      actual.insert(actual.end(), {sums.row_largest[i] + std::log(sums.row_sum[i]),
                                   sums.column_largest[i] + std::log(sums.column_sum[i])});
    }
    return agree(state, actual, expected, 1e-4);
  });
}

/// With the losses and what backward reads.
template <class T>
void info_nce_forward(benchmark::State& state) {
  Problem<T> p(state);
  Sums<T> sums(p.n);
  Array<float> losses(p.n), mean(1), weights(5 * p.n);
  float* const w = weights.data();
  const InfoNceForward<T> args{sums.args(p),
                               losses.data(),
                               mean.data(),
                               {w, w + p.n, w + 3 * p.n, w + 4 * p.n, w + 2 * p.n}};
  measure(state, args, [&] {
    std::vector<double> actual, expected;
    losses.fetch();
    for (const std::int64_t i : p.checked()) {
      const auto [row, column] = log_sums(p, i);
      const double own = p.score(i, i), with_own = std::exp(own);
      expected.push_back(
          0.5 * (std::log(std::exp(row) + with_own) + std::log(std::exp(column) + with_own)) - own);
      actual.push_back(losses[i]);
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
const Table kRowTable{{"N", "d"}, {{130, 20}, {8192, 256}}, {{131072, 256}}};
const Register registered{{
    kernel<PairSums<float>>(kPairTable, pair_sums<float>),
    kernel<PairGradient<float>>(kPairTable, pair_gradient<float>),
    kernel<PairSums<BFloat16>>(kBf16Table, pair_sums<BFloat16>),
    kernel<PairGradient<BFloat16>>(kBf16Table, pair_gradient<BFloat16>),
    kernel<InfoNceForward<float>>(kPairTable, info_nce_forward<float>),
    kernel<InfoNceForward<BFloat16>>(kBf16Table, info_nce_forward<BFloat16>),
    kernel<UnitRowsForward<float>>(kRowTable, unit_rows_forward),
    kernel<UnitRowsBackward<float>>(kRowTable, unit_rows_backward),
    reference<UnitRowsBackward<float>>(kRowTable, unit_rows_backward),
}};

}  // namespace
}  // namespace cmir::kernels
