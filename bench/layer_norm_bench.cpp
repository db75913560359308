// The teaching ladder of layer norm: mean, variance and output as separate loops over the whole
// matrix (naive); a row at a time in plain loops (rowwise); mean of squares minus square of the
// mean in one pass (one_pass: fast and wrong for a large mean); the kernel (fused: a row at a time,
// vectorised, threaded, statistics saved). And the norm of a sum, its gradient with what arrived by
// another way: each in one kernel against two.
#include "kernels/norm/layer_norm.h"

#include "bench/harness.h"
#include "kernels/elementwise/axpy.h"
#include "kernels/elementwise/binary.h"

namespace cmir::kernels {
namespace {

using namespace bench;

struct Data {
  std::int64_t rows, width;
  Array<float> x, gamma, beta, dy, y, mean, rstd, dx, dgamma, dbeta, workspace, residual, sum,
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
  LayerNormForward<float> forward_of_sum() {
    auto args = forward();
    args.residual = residual.data();
    args.sum = sum.data();
    return args;
  }
  LayerNormBackward<float> backward_arrived() {
    auto args = backward();
    args.arrived = arrived.data();
    return args;
  }
};

void naive(Data& d) {
  std::vector<float>&mean = d.mean.host(), &rstd = d.rstd.host();
  std::fill(mean.begin(), mean.end(), 0.0F);
  std::fill(rstd.begin(), rstd.end(), 0.0F);
  const auto n = static_cast<float>(d.width);
  for (std::int64_t i = 0; i < d.rows * d.width; ++i) mean[i / d.width] += d.x[i] / n;
  for (std::int64_t i = 0; i < d.rows * d.width; ++i) {
    const float centred = d.x[i] - mean[i / d.width];
    rstd[i / d.width] += centred * centred / n;
  }
  for (float& r : rstd) r = 1 / std::sqrt(r + 1e-5F);
  for (std::int64_t i = 0; i < d.rows * d.width; ++i) {
    d.y[i] = (d.x[i] - mean[i / d.width]) * rstd[i / d.width] * d.gamma[i % d.width] +
             d.beta[i % d.width];
  }
}

template <bool kOnePass>
void rowwise(Data& d) {
  const auto n = static_cast<float>(d.width);
  for (std::int64_t r = 0; r < d.rows; ++r) {
    const float* x = &d.x[r * d.width];
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

bool matches_naive(benchmark::State& state, Data& d) {
  Data plain(state);
  naive(plain);
  return agree(state, d.y, plain.y.host(), 1e-4);
}

void forward(benchmark::State& state) {
  Data d(state);
  measure(state, d.forward(), [&] {
    hand_over(state, [&] {
      return NamedTensors{{"x", tensor_of(d.x)},
                          {"gamma", tensor_of(d.gamma)},
                          {"beta", tensor_of(d.beta)},
                          {"out.y", tensor_of(d.y)}};
    });
    return matches_naive(state, d);
  });
}

Function rung(void (*step)(Data&)) {
  return [step](benchmark::State& state) {
    Data d(state);
    step(d);
    if (matches_naive(state, d))
      time_calls(
          state, [&] { step(d); }, cost_of(d.forward()));
  };
}

struct Gradients {
  std::vector<float> dx;
  std::vector<double> dgamma, dbeta;
};

Gradients naive_backward(const Data& d) {
  Gradients result{std::vector<float>(d.rows * d.width), std::vector<double>(d.width),
                   std::vector<double>(d.width)};
  for (std::int64_t r = 0; r < d.rows; ++r) {
    float g = 0, gn = 0;
    for (std::int64_t j = 0; j < d.width; ++j) {
      const std::int64_t i = r * d.width + j;
      const float n = (d.x[i] - d.mean[r]) * d.rstd[r];
      g += d.gamma[j] * d.dy[i] / static_cast<float>(d.width);
      gn += d.gamma[j] * d.dy[i] * n / static_cast<float>(d.width);
      result.dgamma[j] += d.dy[i] * n;
      result.dbeta[j] += d.dy[i];
    }
    for (std::int64_t j = 0; j < d.width; ++j) {
      const std::int64_t i = r * d.width + j;
      result.dx[i] = d.rstd[r] * (d.gamma[j] * d.dy[i] - g - (d.x[i] - d.mean[r]) * d.rstd[r] * gn);
    }
  }
  return result;
}

void backward_naive(benchmark::State& state) {
  Data d(state);
  kernels::run({}, d.forward());
  time_calls(
      state, [&] { benchmark::DoNotOptimize(naive_backward(d)); }, cost_of(d.backward()));
}

bool backward_is_right(benchmark::State& state, Data& d, bool arrived) {
  d.mean.fetch(), d.rstd.fetch();
  Gradients expected = naive_backward(d);
  for (std::size_t i = 0; arrived && i < expected.dx.size(); ++i) expected.dx[i] += d.arrived[i];
  const double tolerance = 1e-3 * std::sqrt(static_cast<double>(d.rows));
  return agree(state, d.dx, expected.dx, 1e-3) &&
         agree(state, d.dgamma, expected.dgamma, tolerance) &&
         agree(state, d.dbeta, expected.dbeta, tolerance);
}

void backward(benchmark::State& state) {
  Data d(state);
  run(device(), d.forward());
  measure(state, d.backward(), [&] {
    hand_over(state, [&] {
      return NamedTensors{{"x", tensor_of(d.x)},
                          {"gamma", tensor_of(d.gamma)},
                          {"dy", tensor_of(d.dy)},
                          {"out.dx", tensor_of(d.dx)},
                          {"out.dgamma", tensor_of(d.dgamma)},
                          {"out.dbeta", tensor_of(d.dbeta)}};
    });
    return backward_is_right(state, d, false);
  });
}

bool sum_is_right(benchmark::State& state, Data& d) {
  Data plain(state);
  for (std::int64_t i = 0; i < plain.x.size(); ++i) plain.x[i] += plain.residual[i];
  naive(plain);
  return agree(state, d.sum, plain.x.host(), 0) && agree(state, d.y, plain.y.host(), 1e-4);
}

void of_sum(benchmark::State& state) {
  Data d(state);
  measure(state, d.forward_of_sum(), [&] { return sum_is_right(state, d); });
}
void of_sum_in_two(benchmark::State& state) {
  Data d(state);
  auto norm = d.forward();
  norm.x = d.sum.data();
  const auto step = [&] {
    run({}, Binary<float>{BinaryOperation::add, d.x.data(), d.residual.data(), d.sum.data(), 1,
                          d.rows * d.width});
    run({}, norm);
  };
  step();
  if (sum_is_right(state, d)) time_calls(state, step, cost_of(d.forward_of_sum()));
}

void arrived(benchmark::State& state) {
  Data d(state);
  run(device(), d.forward());
  measure(state, d.backward_arrived(), [&] { return backward_is_right(state, d, true); });
}
void arrived_in_two(benchmark::State& state) {
  Data d(state);
  run({}, d.forward());
  const auto step = [&] {
    run({}, d.backward());
    run({}, Axpy<float>{1.0F, d.arrived.data(), d.dx.data(), d.rows * d.width});
  };
  step();
  if (backward_is_right(state, d, true)) time_calls(state, step, cost_of(d.backward_arrived()));
}

const Table kTable = {{"rows", "width"},
                      {{537, 150}, {2400, 30}, {2400, 150}, {600, 1024}},
                      {{1 << 18, 150}, {1 << 16, 1024}}};
const Register registered{{
    kernel<LayerNormForward<float>>(kTable, forward),
    peer<LayerNormForward<float>>("naive", kTable, rung(naive)),
    peer<LayerNormForward<float>>("rowwise", kTable, rung(rowwise<false>)),
    peer<LayerNormForward<float>>("one_pass", kTable, rung(rowwise<true>)),
    kernel<LayerNormBackward<float>>(kTable, backward),
    peer<LayerNormBackward<float>>("naive", kTable, backward_naive),
    kernel<LayerNormForward<float>>(kTable, of_sum, "of_sum"),
    peer<LayerNormForward<float>>("two_kernels", kTable, of_sum_in_two, "of_sum"),
    kernel<LayerNormBackward<float>>(kTable, arrived, "arrived"),
    peer<LayerNormBackward<float>>("two_kernels", kTable, arrived_in_two, "arrived"),
}};

}  // namespace
}  // namespace cmir::kernels
