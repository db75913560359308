// Elementwise kernels against the C library in a plain loop.
#include <cblas.h>

#include "bench/harness.h"
#include "kernels/elementwise/activation.h"
#include "kernels/elementwise/axpy.h"
#include "kernels/elementwise/binary.h"

namespace cmir::kernels {
namespace {

using namespace bench;

const Table kFlat = {{"count"}, {{48 * 150}, {480 * 256}}, {{1 << 25}}};
const Table kRows = {
    {"rows", "width"}, {{48, 150}, {480, 256}, {2400, 600}}, {{1 << 18, 150}, {1 << 16, 1024}}};

float naive(Activation activation, float x) {
  switch (activation) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0F);
    case Activation::gelu:
      return x * 0.5F * std::erfc(x * -0.70710678F);
    case Activation::tanh:
      return std::tanh(x);
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::exp:
      return std::exp(x);
  }
  return 0;
}

/// f(i) for every i below count.
template <class F>
std::vector<float> filled(std::int64_t count, F&& f) {
  std::vector<float> values(count);
  for (std::int64_t i = 0; i < count; ++i) values[i] = f(i);
  return values;
}

std::vector<Entry> activation(const std::string& name, Activation kind) {
  const auto kernel_benchmark = [=](benchmark::State& state) {
    const std::int64_t count = state.range(0);
    Array<float> x(normals(count, 1)), y(count);
    measure(state, ActivationForward<float>{kind, x.data(), y.data(), count}, [&] {
      hand_over(state, [&] { return NamedTensors{{"x", tensor_of(x)}, {"out.y", tensor_of(y)}}; });
      return agree(state, y, filled(count, [&](auto i) { return naive(kind, x[i]); }), 2e-5);
    });
  };
  const auto naive_benchmark = [=](benchmark::State& state) {
    const std::int64_t count = state.range(0);
    const auto x = normals(count, 1);
    const auto loop = [&] {
      benchmark::DoNotOptimize(filled(count, [&](auto i) { return naive(kind, x[i]); }));
    };
    time_calls(state, loop, cost_of(ActivationForward<float>{kind, nullptr, nullptr, count}));
  };
  return {kernel<ActivationForward<float>>(kFlat, kernel_benchmark, name),
          peer<ActivationForward<float>>("naive", kFlat, naive_benchmark, name)};
}

struct RowData {
  std::int64_t rows, width;
  Array<float> a, b, y;

  explicit RowData(benchmark::State& state)
      : rows(state.range(0)),
        width(state.range(1)),
        a(normals(rows * width, 1)),
        b(normals(width, 2)),
        y(rows * width) {}
  Binary<float> args() {
    return {BinaryOperation::multiply, a.data(), b.data(), y.data(), rows, width};
  }
  std::vector<float> naive() const {
    std::vector<float> out(rows * width);
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < width; ++j) out[i * width + j] = a[i * width + j] * b[j];
    }
    return out;
  }
};
void multiply_row(benchmark::State& state) {
  RowData d(state);
  measure(state, d.args(), [&] { return agree(state, d.y, d.naive(), 0); });
}
void multiply_row_naive(benchmark::State& state) {
  RowData d(state);
  time_calls(
      state, [&] { benchmark::DoNotOptimize(d.naive()); }, cost_of(d.args()));
}

void axpy(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  Array<float> x(normals(count, 1)), y(normals(count, 2));
  const auto before = y.host();
  measure(state, Axpy<float>{-1.5F, x.data(), y.data(), count}, [&] {
    return agree(state, y, filled(count, [&](auto i) { return before[i] - 1.5F * x[i]; }), 1e-5);
  });
}
void axpy_blas(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  Array<float> x(normals(count, 1)), y(normals(count, 2));
  const Axpy<float> args{-1.5F, x.data(), y.data(), count};
  const auto call = [&] { cblas_saxpy(static_cast<int>(count), args.alpha, args.x, 1, args.y, 1); };
  time_calls(state, call, cost_of(args));
}
void scale(benchmark::State& state) {
  const std::int64_t count = state.range(0);
  Array<float> x(normals(count, 1)), y(count);
  measure(state, Scale<float>{-1.5F, x.data(), y.data(), count}, [&] {
    return agree(state, y, filled(count, [&](auto i) { return -1.5F * x[i]; }), 1e-5);
  });
}

const Register relu{activation("relu", Activation::relu)};
const Register gelu{activation("gelu", Activation::gelu)};
const Register tanh_{activation("tanh", Activation::tanh)};
const Register sigmoid{activation("sigmoid", Activation::sigmoid)};
const Register exp_{activation("exp", Activation::exp)};
const Register registered{{
    kernel<Binary<float>>(kRows, multiply_row, "multiply_row"),
    peer<Binary<float>>("naive", kRows, multiply_row_naive, "multiply_row"),
    kernel<Axpy<float>>(kFlat, axpy),
    peer<Axpy<float>>("blas", kFlat, axpy_blas),
    kernel<Scale<float>>(kFlat, scale),
    reference<Scale<float>>(kFlat, scale),
}};

}  // namespace
}  // namespace cmir::kernels
