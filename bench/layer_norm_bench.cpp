// The teaching ladder of layer norm: mean, variance and output as separate loops over the whole
// matrix (naive); a row at a time in plain loops (rowwise); mean of squares minus square of the
// mean in one pass (one_pass: fast and wrong for a large mean); the kernel (fused: a row at a time,
// vectorised, threaded, statistics saved). And the norm of a sum, its gradient with what arrived by
// another way: each in one kernel against two.
#include "kernels/norm/layer_norm.h"

#include "bench/compare.h"
#include "kernels/elementwise/axpy.h"
#include "kernels/elementwise/binary.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, width;
  std::vector<float> x, gamma, beta, dy, y, mean, rstd, dx, dgamma, dbeta, workspace, residual, sum,
      arrived;

  explicit Data(benchmark::State& state)
      : rows(state.range(0)),
        width(state.range(1)),
        x(normals(rows * width, 1)),
        gamma(normals(width, 2)),
        beta(normals(width, 3)),
        dy(normals(rows * width, 4)),
        y(rows * width),
        mean(rows),
        rstd(rows),
        dx(rows * width),
        dgamma(width),
        dbeta(width),
        workspace(layer_norm_backward_workspace(rows, width)),
        residual(normals(rows * width, 5)),
        sum(rows * width),
        arrived(normals(rows * width, 6)) {}

  LayerNormForward<float> forward() {
    return {x.data(),    gamma.data(), beta.data(), 1e-5F, y.data(),
            mean.data(), rstd.data(),  rows,        width};
  }
  LayerNormBackward<float> backward() {
    return {x.data(),      gamma.data(), mean.data(), rstd.data(), dy.data(),       dx.data(),
            dgamma.data(), dbeta.data(), rows,        width,       workspace.data()};
  }
  LayerNormForward<float> of_sum() {
    auto args = forward();
    args.residual = residual.data();
    args.sum = sum.data();
    return args;
  }
};

void naive(Data& d) {
  std::fill(d.mean.begin(), d.mean.end(), 0.0F);
  std::fill(d.rstd.begin(), d.rstd.end(), 0.0F);
  const auto n = static_cast<float>(d.width);
  for (std::int64_t i = 0; i < d.rows * d.width; ++i) d.mean[i / d.width] += d.x[i] / n;
  for (std::int64_t i = 0; i < d.rows * d.width; ++i) {
    const float centred = d.x[i] - d.mean[i / d.width];
    d.rstd[i / d.width] += centred * centred / n;
  }
  for (float& r : d.rstd) r = 1 / std::sqrt(r + 1e-5F);
  for (std::int64_t i = 0; i < d.rows * d.width; ++i) {
    d.y[i] = (d.x[i] - d.mean[i / d.width]) * d.rstd[i / d.width] * d.gamma[i % d.width] +
             d.beta[i % d.width];
  }
}

template <bool kOnePass>
void rowwise(Data& d) {
  const auto n = static_cast<float>(d.width);
  for (std::int64_t r = 0; r < d.rows; ++r) {
    const float* x = d.x.data() + r * d.width;
    float sum = 0, squares = 0;
    for (std::int64_t j = 0; j < d.width; ++j) {
      sum += x[j];
      if (kOnePass) squares += x[j] * x[j];
    }
    const float mean = sum / n;
    for (std::int64_t j = 0; j < d.width && !kOnePass; ++j)
      squares += (x[j] - mean) * (x[j] - mean);
    const float variance = kOnePass ? squares / n - mean * mean : squares / n;
    const float rstd = 1 / std::sqrt(variance + 1e-5F);
    for (std::int64_t j = 0; j < d.width; ++j) {
      d.y[r * d.width + j] = (x[j] - mean) * rstd * d.gamma[j] + d.beta[j];
    }
  }
}

template <class F>
void ladder(benchmark::State& state, F step) {
  Data d(state);
  naive(d);
  const auto expected = d.y;
  step(d);
  if (!agree(state, d.y, expected, 1e-4)) return;
  for (auto _ : state) {
    step(d);
    benchmark::DoNotOptimize(d.y.data());
    benchmark::ClobberMemory();
  }
  count(state, d.forward());
}
void forward_naive(benchmark::State& state) { ladder(state, naive); }
void forward_rowwise(benchmark::State& state) { ladder(state, rowwise<false>); }
void forward_one_pass(benchmark::State& state) { ladder(state, rowwise<true>); }
void forward_fused(benchmark::State& state) {
  ladder(state, [](Data& d) { run({}, d.forward()); });
}

/// dx, dgamma, dbeta by plain loops.
void naive_backward(const Data& d, std::vector<float>& dx, std::vector<float>& dgamma,
                    std::vector<float>& dbeta) {
  dx.assign(d.x.size(), 0);
  dgamma.assign(d.width, 0);
  dbeta.assign(d.width, 0);
  for (std::int64_t r = 0; r < d.rows; ++r) {
    float g = 0, gn = 0;
    for (std::int64_t j = 0; j < d.width; ++j) {
      const std::int64_t i = r * d.width + j;
      const float n = (d.x[i] - d.mean[r]) * d.rstd[r];
      g += d.gamma[j] * d.dy[i] / static_cast<float>(d.width);
      gn += d.gamma[j] * d.dy[i] * n / static_cast<float>(d.width);
      dgamma[j] += d.dy[i] * n;
      dbeta[j] += d.dy[i];
    }
    for (std::int64_t j = 0; j < d.width; ++j) {
      const std::int64_t i = r * d.width + j;
      dx[i] = d.rstd[r] * (d.gamma[j] * d.dy[i] - g - (d.x[i] - d.mean[r]) * d.rstd[r] * gn);
    }
  }
}

void backward_naive(benchmark::State& state) {
  Data d(state);
  run({}, d.forward());
  for (auto _ : state) {
    naive_backward(d, d.dx, d.dgamma, d.dbeta);
    benchmark::ClobberMemory();
  }
  count(state, d.backward());
}

void backward_fused(benchmark::State& state) {
  Data d(state);
  run({}, d.forward());
  run({}, d.backward());
  std::vector<float> dx, dgamma, dbeta;
  naive_backward(d, dx, dgamma, dbeta);
  if (!agree(state, d.dx, dx, 1e-3) || !agree(state, d.dgamma, dgamma, 2e-2) ||
      !agree(state, d.dbeta, dbeta, 2e-2)) {
    return;
  }
  for (auto _ : state) run({}, d.backward());
  count(state, d.backward());
}

template <class Step>
void of_sum(benchmark::State& state, Step step) {
  Data d(state), plain(state);
  for (std::size_t i = 0; i < d.x.size(); ++i) plain.x[i] += plain.residual[i];
  naive(plain);
  step(d);
  if (!agree(state, d.y, plain.y, 1e-4) || !agree(state, d.sum, plain.x, 0)) return;
  for (auto _ : state) step(d);
  count(state, d.of_sum());
}
void of_sum_fused(benchmark::State& state) {
  of_sum(state, [](Data& d) { run({}, d.of_sum()); });
}
void of_sum_two_kernels(benchmark::State& state) {
  of_sum(state, [](Data& d) {
    run({}, Binary<float>{BinaryOperation::add, d.x.data(), d.residual.data(), d.sum.data(), 1,
                          d.rows * d.width});
    auto args = d.forward();
    args.x = d.sum.data();
    run({}, args);
  });
}

template <class Step>
void backward_arrived(benchmark::State& state, Step step) {
  Data d(state);
  run({}, d.forward());
  std::vector<float> dx, dgamma, dbeta;
  naive_backward(d, dx, dgamma, dbeta);
  for (std::size_t i = 0; i < dx.size(); ++i) dx[i] += d.arrived[i];
  step(d);
  if (!agree(state, d.dx, dx, 1e-3)) return;
  for (auto _ : state) step(d);
  auto args = d.backward();
  args.arrived = d.arrived.data();
  count(state, args);
}
void backward_arrived_fused(benchmark::State& state) {
  backward_arrived(state, [](Data& d) {
    auto args = d.backward();
    args.arrived = d.arrived.data();
    run({}, args);
  });
}
void backward_arrived_two_kernels(benchmark::State& state) {
  backward_arrived(state, [](Data& d) {
    run({}, d.backward());
    run({}, Axpy<float>{1.0F, d.arrived.data(), d.dx.data(), d.rows * d.width});
  });
}

void sizes(benchmark::internal::Benchmark* b) {
  b->ArgNames({"rows", "width"})
      ->Args({2400, 30})
      ->Args({2400, 150})
      ->Args({600, 1024})
      ->Unit(benchmark::kMicrosecond);
}
BENCHMARK(forward_naive)->Apply(sizes);
BENCHMARK(forward_rowwise)->Apply(sizes);
BENCHMARK(forward_one_pass)->Apply(sizes);
BENCHMARK(forward_fused)->Apply(sizes);
BENCHMARK(backward_naive)->Apply(sizes);
BENCHMARK(backward_fused)->Apply(sizes);
BENCHMARK(of_sum_two_kernels)->Apply(sizes)->UseRealTime();
BENCHMARK(of_sum_fused)->Apply(sizes)->UseRealTime();
BENCHMARK(backward_arrived_two_kernels)->Apply(sizes)->UseRealTime();
BENCHMARK(backward_arrived_fused)->Apply(sizes)->UseRealTime();

}  // namespace
}  // namespace cmir::kernels
