// What NWJ and Donsker-Varadhan add to the sums and gradients over all pairs, which
// info_nce_bench.cpp times.
#include <cmath>

#include "bench/harness.h"
#include "kernels/information/pair_bound.h"

namespace cmir::kernels {
namespace {

using namespace bench;

/// Rows' sums of 5 exp(largest).
struct Sums {
  std::int64_t n;
  Array<float> diagonal, largest;
  Array<double> sum;

  explicit Sums(const benchmark::State& state)
      : n(state.range(0)),
        diagonal(normals(n, 1)),
        largest(normals(n, 2)),
        sum(std::vector<double>(n, 5)) {}
  PairTotals<float> totals() {
    return {diagonal.data(), largest.data(), sum.data(), nullptr, nullptr, n};
  }
};

void forward(benchmark::State& state) {
  Sums sums(state);
  Array<float> value(1);
  Array<double> log_denominator(1);
  const PairBoundForward<float> args{sums.totals(), PairBoundKind::donsker_varadhan, 1, nullptr,
                                     value.data(),  log_denominator.data()};
  measure(state, args, [&] {
    const auto n = static_cast<double>(sums.n);
    double mean = 0, others = 0;
    for (const float x : sums.diagonal) mean += x / n;
    for (const float x : sums.largest) others += 5 * std::exp(double{x}) / (n * (n - 1));
    return agree(state, value, std::vector{mean - std::log(others)}, 1e-5);
  });
}

void backward(benchmark::State& state) {
  Sums sums(state);
  const auto n = static_cast<double>(sums.n);
  Array<float> cotangent(std::vector<float>{-1.5F}), weight(sums.n), shift(sums.n),
      diagonal(sums.n);
  Array<double> log_denominator(std::vector<double>{-2 * std::log(n)});
  const PairBoundBackward<float> args{sums.totals(), cotangent.data(), log_denominator.data(),
                                      weight.data(), shift.data(),     diagonal.data()};
  measure(state, args, [&] {
    std::vector<double> expected;
    for (const float x : sums.largest) expected.push_back(1.5 * n / (n - 1) * std::exp(double{x}));
    return agree(state, weight, expected, 1e-3);
  });
}

const Table kTable{{"N"}, {{300}, {8192}}, {{1 << 22}}};
const Register registered{with_references({kernel<PairBoundForward<float>>(kTable, forward),
                                           kernel<PairBoundBackward<float>>(kTable, backward)})};

}  // namespace
}  // namespace cmir::kernels
