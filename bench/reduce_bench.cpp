// Reductions and their adjoint against plain f32 loops (which the kernels beat in accuracy too:
// they sum in f64).
#include "kernels/reduce/sum.h"

#include <algorithm>

#include "bench/cuda/cub.h"
#include "bench/harness.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, width;
  Array<float> x, y;
  Array<double> workspace;

  explicit Data(benchmark::State& state)
      : rows(state.range(0)),
        width(state.range(1)),
        x(normals(rows * width, 1)),
        y(std::max(rows, width)),
        workspace(std::max(SumAll<float>::workspace_size(rows * width),
                           SumOverRows<float>::workspace_size(rows, width))) {}
  SumAll<float> all() { return {1.0, x.data(), y.data(), workspace.data(), rows * width}; }
  SumOverRows<float> over_rows() {
    return {1.0, x.data(), nullptr, y.data(), workspace.data(), rows, width};
  }
  SumOverColumns<float> over_columns() { return {1.0, x.data(), y.data(), rows, width}; }
};

template <class Sum>
std::vector<Sum> naive_all(const Data& d) {
  Sum sum = 0;
  for (const float x : d.x) sum += x;
  return {sum};
}
template <class Sum>
std::vector<Sum> naive_over_rows(const Data& d) {
  std::vector<Sum> sums(d.width);
  for (std::int64_t i = 0; i < d.rows; ++i) {
    for (std::int64_t j = 0; j < d.width; ++j) sums[j] += d.x[i * d.width + j];
  }
  return sums;
}
template <class Sum>
std::vector<Sum> naive_over_columns(const Data& d) {
  std::vector<Sum> sums(d.rows);
  for (std::int64_t i = 0; i < d.rows; ++i) {
    for (std::int64_t j = 0; j < d.width; ++j) sums[i] += d.x[i * d.width + j];
  }
  return sums;
}

const Table kTable = {
    {"rows", "width"}, {{48, 150}, {480, 256}, {2400, 600}}, {{1 << 18, 150}, {1 << 16, 1024}}};

template <class Args>
std::vector<Entry> both(Args (Data::*args)(), std::vector<double> (*exact)(const Data&),
                        std::vector<float> (*naive)(const Data&)) {
  const auto kernel_benchmark = [=](benchmark::State& state) {
    Data d(state);
    measure(state, (d.*args)(), [&] {
      hand_over(state, [&] {
        return NamedTensors{{"x", tensor_of(d.x)}, {"out.y", tensor_of(d.y)}};
      });
      return agree(state, d.y, exact(d), 1e-5 * std::sqrt(d.x.size()));
    });
  };
  const auto naive_benchmark = [=](benchmark::State& state) {
    Data d(state);
    time_calls(
        state, [&] { benchmark::DoNotOptimize(naive(d)); }, cost_of((d.*args)()));
  };
  return {kernel<Args>(kTable, kernel_benchmark), peer<Args>("naive", kTable, naive_benchmark)};
}

void broadcast(benchmark::State& state) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  Array<float> x(normals(width, 1)), y(rows * width);
  measure(state, Broadcast<float>{0.5, x.data(), 0, 1, y.data(), rows, width}, [&] {
    std::vector<float> expected(y.size());
    for (std::int64_t i = 0; i < y.size(); ++i) expected[i] = 0.5F * x[i % width];
    return agree(state, y, expected, 0);
  });
}

/// CUB's sums on a GPU; `all` takes the matrix as one row.
Function cub(bool all) {
  return [=](benchmark::State& state) {
    Data d(state);
    const std::int64_t rows = all ? 1 : d.rows;
    CubRowSums call(d.x.data(), d.y.data(), rows, d.x.size() / rows);
    call();
    const auto expected = all ? naive_all<double>(d) : naive_over_columns<double>(d);
    if (!agree(state, d.y, expected, 1e-5 * std::sqrt(d.x.size()))) return;
    time_calls(
        state, [&] { call(); }, all ? cost_of(d.all()) : cost_of(d.over_columns()));
  };
}

const Register cub_sums{{
    peer<SumAll<float>>("cub@cuda", kTable, cub(true)),
    peer<SumOverColumns<float>>("cub@cuda", kTable, cub(false)),
}};
const Register sum_all{both<SumAll<float>>(&Data::all, naive_all<double>, naive_all<float>)};
const Register sum_over_rows{
    both<SumOverRows<float>>(&Data::over_rows, naive_over_rows<double>, naive_over_rows<float>)};
const Register sum_over_columns{both<SumOverColumns<float>>(
    &Data::over_columns, naive_over_columns<double>, naive_over_columns<float>)};
const Register broadcasts{
    {kernel<Broadcast<float>>(kTable, broadcast), reference<Broadcast<float>>(kTable, broadcast)}};

}  // namespace
}  // namespace cmir::kernels
