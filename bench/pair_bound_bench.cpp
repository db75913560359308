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
  PairTotals<float> totals() { return {diagonal.data(), largest.data(), sum.data(), n}; }
};

/// With what backward reads.
void forward(benchmark::State& state) {
  Sums sums(state);
  Array<float> value(1), weight(sums.n), shift(sums.n), diagonal(sums.n);
  const PairBoundForward<float> args{
      sums.totals(),
      PairBoundKind::donsker_varadhan,
      1,
      nullptr,
      value.data(),
      {weight.data(), shift.data(), nullptr, nullptr, diagonal.data()}};
  measure(state, args, [&] {
    const auto n = static_cast<double>(sums.n);
    double mean = 0, others = 0;
    for (const float x : sums.diagonal) mean += x / n;
    for (const float x : sums.largest) others += 5 * std::exp(double{x}) / (n * (n - 1));
    std::vector<double> weights;
    for (const float x : sums.largest) {
      weights.push_back(-std::exp(double{x}) / (n * (n - 1) * others));
    }
    return agree(state, value, std::vector{mean - std::log(others)}, 1e-5) &&
           agree(state, weight, weights, 1e-6);
  });
}

const Table kTable{{"N"}, {{300}, {8192}}, {{1 << 22}}};
const Register registered{with_references({kernel<PairBoundForward<float>>(kTable, forward)})};

}  // namespace
}  // namespace cmir::kernels
