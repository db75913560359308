// Elementwise kernels against the C library in a plain loop.
#include "kernels/elementwise/activation.h"
#include "kernels/elementwise/binary.h"

#include "bench/compare.h"

namespace cmir::kernels {
namespace {

using namespace bench;

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

void activation_forward(benchmark::State& state, Activation activation, bool kernel) {
  const std::int64_t size = state.range(0);
  const auto x = normals(size, 1);
  std::vector<float> y(size), expected(size);
  const ActivationForward<float> args{activation, x.data(), y.data(), size};
  const auto loop = [&](std::vector<float>& out) {
    for (std::int64_t i = 0; i < size; ++i) out[i] = naive(activation, x[i]);
    benchmark::ClobberMemory();
  };
  loop(expected);
  run({}, args);
  if (!agree(state, y, expected, 2e-5)) return;
  for (auto _ : state) kernel ? run({}, args) : loop(y);
  count(state, args);
}

void multiply_row(benchmark::State& state, bool kernel) {
  const std::int64_t rows = state.range(0), width = state.range(1);
  const auto a = normals(rows * width, 1), b = normals(width, 2);
  std::vector<float> y(rows * width), expected(rows * width);
  const Binary<float> args{BinaryOperation::multiply, a.data(), b.data(), y.data(), rows, width};
  const auto loop = [&](std::vector<float>& out) {
    for (std::int64_t i = 0; i < rows; ++i) {
      for (std::int64_t j = 0; j < width; ++j) out[i * width + j] = a[i * width + j] * b[j];
    }
    benchmark::ClobberMemory();
  };
  loop(expected);
  run({}, args);
  if (!agree(state, y, expected, 0)) return;
  for (auto _ : state) kernel ? run({}, args) : loop(y);
  count(state, args);
}

const bool registered = [] {
  for (const auto& [name, activation] : {std::pair{"relu", Activation::relu},
                                         {"gelu", Activation::gelu},
                                         {"tanh", Activation::tanh},
                                         {"sigmoid", Activation::sigmoid},
                                         {"exp", Activation::exp}}) {
    for (const bool kernel : {true, false}) {
      const std::string title = fmt::format("{}/{}", name, kernel ? "kernel" : "naive");
      benchmark::RegisterBenchmark(title.c_str(), activation_forward, activation, kernel)
          ->Arg(480 * 256)
          ->UseRealTime();
    }
  }
  return true;
}();
BENCHMARK_CAPTURE(multiply_row, kernel, true)
    ->Args({480, 256})
    ->Args({48, 150})
    ->Args({2400, 600})
    ->UseRealTime();
BENCHMARK_CAPTURE(multiply_row, naive, false)
    ->Args({480, 256})
    ->Args({48, 150})
    ->Args({2400, 600})
    ->UseRealTime();

}  // namespace
}  // namespace cmir::kernels
