// Reductions against plain f32 loops (which the kernel beats in accuracy too: it sums in f64).
#include "kernels/reduce/sum.h"

#include "bench/compare.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, width;
  std::vector<float> x, y;
  std::vector<double> workspace;

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

void naive_all(Data& d) {
  float sum = 0;
  for (const float x : d.x) sum += x;
  d.y[0] = sum;
}
void naive_over_rows(Data& d) {
  std::fill_n(d.y.begin(), d.width, 0.0F);
  for (std::int64_t i = 0; i < d.rows; ++i) {
    for (std::int64_t j = 0; j < d.width; ++j) d.y[j] += d.x[i * d.width + j];
  }
}
void naive_over_columns(Data& d) {
  for (std::int64_t i = 0; i < d.rows; ++i) {
    float sum = 0;
    for (std::int64_t j = 0; j < d.width; ++j) sum += d.x[i * d.width + j];
    d.y[i] = sum;
  }
}

template <class Args, class Naive>
void reduce(benchmark::State& state, Args (Data::*args)(), Naive naive, bool kernel) {
  Data d(state);
  naive(d);
  const auto expected = d.y;
  run({}, (d.*args)());
  if (!agree(state, d.y, expected, 1.0)) return;  // the plain f32 sum is that far off
  for (auto _ : state) {
    if (kernel) {
      run({}, (d.*args)());
    } else {
      naive(d);
    }
    benchmark::ClobberMemory();
  }
  count(state, (d.*args)());
}

void sizes(benchmark::internal::Benchmark* b) {
  b->Args({48, 150})->Args({480, 256})->Args({2400, 600})->UseRealTime();
}
BENCHMARK_CAPTURE(reduce, all, &Data::all, naive_all, true)->Apply(sizes);
BENCHMARK_CAPTURE(reduce, all_naive, &Data::all, naive_all, false)->Apply(sizes);
BENCHMARK_CAPTURE(reduce, over_rows, &Data::over_rows, naive_over_rows, true)->Apply(sizes);
BENCHMARK_CAPTURE(reduce, over_rows_naive, &Data::over_rows, naive_over_rows, false)->Apply(sizes);
BENCHMARK_CAPTURE(reduce, over_columns, &Data::over_columns, naive_over_columns, true)
    ->Apply(sizes);
BENCHMARK_CAPTURE(reduce, over_columns_naive, &Data::over_columns, naive_over_columns, false)
    ->Apply(sizes);

}  // namespace
}  // namespace cmir::kernels
