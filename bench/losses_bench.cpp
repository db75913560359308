// R_dec and R_inv, forward and backward: the fused ops against the formulas written with whole
// arrays, as an array library would compute them (every intermediate of the forward kept for the
// backward). Both are compared before anything is timed; a case that differs is skipped with the
// difference. Counter peak_MB: the largest memory in use above the inputs. One iteration is one
// forward and backward of one modality at d = 150. This file is compiled with the kernels' flags
// for this machine's instruction set, so that the naive forms are vectorised too.
#include <algorithm>
#include <cmath>

#include "bench/harness.h"
#include "core/allocator.h"
#include "core/philox.h"
#include "kernels/kernel.h"
#include "kernels/matrix/gemm.h"
#include "losses/decorrelation.h"
#include "losses/invariance.h"

namespace cmir {
namespace {

constexpr std::int64_t kWidth = 150;

Tensor normals(const Shape& shape, std::uint64_t seed) {
  Tensor tensor = Tensor::empty(shape);
  const RandomStream stream{.seed = seed};
  for (std::int64_t i = 0; float& x : tensor.mutable_span<float>()) x = stream.normal(i++);
  return tensor;
}

struct Result {
  double value;
  std::vector<Tensor> gradients;
};

using Loss = std::function<Variable(std::span<const Variable>)>;

Result fused(const std::vector<Tensor>& inputs, const Loss& loss) {
  std::vector<Variable> variables;
  for (const Tensor& input : inputs) variables.emplace_back(input, true);
  const Variable value = loss(variables);
  backward(value);
  Result result{value.value().item(), {}};
  for (const Variable& variable : variables) result.gradients.push_back(variable.gradient());
  return result;
}

/// Elementwise result of one pass over whole arrays.
template <class F>
Tensor map(const Tensor& like, F&& f) {
  Tensor out = Tensor::empty(like.shape());
  float* y = out.mutable_data<float>();
  for (std::int64_t i = 0; i < out.numel(); ++i) y[i] = f(i);
  return out;
}

/// Blocks of eight running sums, as an array library has: neither slow nor inexact.
double sum_of(const Tensor& x) {
  const auto values = x.span<float>();
  double sum = 0;
  for (std::size_t begin = 0; begin < values.size(); begin += 4096) {
    float lanes[8] = {};
    const std::size_t end = std::min(begin + 4096, values.size());
    for (std::size_t i = begin; i < end; ++i) lanes[i % 8] += values[i];
    for (const float lane : lanes) sum += lane;
  }
  return sum;
}

/// R_inv, mean over batch and features: a difference array and its sign for every pair.
Result naive_invariance(const Tensor& z, std::int64_t environments) {
  const std::int64_t samples = z.size(0) / (environments + 1);
  const float scale = 1.0F / static_cast<float>(samples * kWidth);
  Tensor gradient = Tensor::zeros(z.shape());
  double value = 0;
  struct Pair {
    std::int64_t a, b;
    Tensor difference;
  };
  std::vector<Pair> pairs;
  for (std::int64_t a = 0; a <= environments; ++a) {
    for (std::int64_t b = a + 1; b <= environments; ++b) {
      const float* x = z.data<float>() + a * samples * kWidth;
      const float* y = z.data<float>() + b * samples * kWidth;
      Tensor difference = Tensor::empty({samples, kWidth});
      float* out = difference.mutable_data<float>();
      for (std::int64_t i = 0; i < difference.numel(); ++i) out[i] = x[i] - y[i];
      const Tensor magnitude = map(difference, [&](std::int64_t i) { return std::abs(out[i]); });
      value += sum_of(magnitude) * scale;
      pairs.push_back({a, b, difference});
    }
  }
  for (const Pair& pair : pairs) {
    const float* d = pair.difference.data<float>();
    const Tensor sign = map(pair.difference, [&](std::int64_t i) {
      return scale * static_cast<float>((d[i] > 0) - (d[i] < 0));  // no branch
    });
    float* first = gradient.mutable_data<float>() + pair.a * samples * kWidth;
    float* second = gradient.mutable_data<float>() + pair.b * samples * kWidth;
    const float* s = sign.data<float>();
    for (std::int64_t i = 0; i < sign.numel(); ++i) first[i] += s[i];
    for (std::int64_t i = 0; i < sign.numel(); ++i) second[i] -= s[i];
  }
  return {value, {gradient}};
}

Tensor product(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b) {
  const std::int64_t m = a.size(transpose_a ? 1 : 0), k = a.size(transpose_a ? 0 : 1);
  const std::int64_t n = b.size(transpose_b ? 0 : 1);
  Tensor c = Tensor::empty({m, n});
  kernels::run({}, kernels::Gemm<float>{.transpose_a = transpose_a,
                                        .transpose_b = transpose_b,
                                        .m = m,
                                        .n = n,
                                        .k = k,
                                        .a = a.data<float>(),
                                        .lda = a.size(1),
                                        .b = b.data<float>(),
                                        .ldb = b.size(1),
                                        .c = c.mutable_data<float>(),
                                        .ldc = n});
  return c;
}

struct Normalised {
  Tensor y;
  std::vector<double> std;

  explicit Normalised(const Tensor& x) : y(x.clone()), std(x.size(0)) {
    for (std::int64_t i = 0; i < x.size(0); ++i) {
      float* row = y.mutable_data<float>() + i * kWidth;
      double mean = 0, squares = 0;
      for (std::int64_t j = 0; j < kWidth; ++j) mean += row[j] / static_cast<double>(kWidth);
      for (std::int64_t j = 0; j < kWidth; ++j) squares += (row[j] - mean) * (row[j] - mean);
      std[i] = std::sqrt(squares / kWidth);
      for (std::int64_t j = 0; j < kWidth; ++j)
        row[j] = static_cast<float>((row[j] - mean) / std[i]);
    }
  }
  Tensor back(const Tensor& gradient) const {
    Tensor dx = gradient.clone();
    for (std::int64_t i = 0; i < dx.size(0); ++i) {
      float* row = dx.mutable_data<float>() + i * kWidth;
      const float* out = y.data<float>() + i * kWidth;
      double mean = 0, along = 0;
      for (std::int64_t j = 0; j < kWidth; ++j) mean += row[j] / static_cast<double>(kWidth);
      for (std::int64_t j = 0; j < kWidth; ++j)
        along += row[j] * static_cast<double>(out[j]) / kWidth;
      for (std::int64_t j = 0; j < kWidth; ++j) {
        row[j] = static_cast<float>((row[j] - mean - out[j] * along) / std[i]);
      }
    }
    return dx;
  }
};

/// R_dec as printed: C, its weights W, W o C and its square, all [N, N]; the products by the same
/// BLAS as the fused op.
Result naive_decorrelation(const Tensor& z_invariant, const Tensor& z_spurious, float alpha) {
  const Normalised a(z_invariant), b(z_spurious);
  const std::int64_t n = z_invariant.size(0);
  const Tensor c = product(a.y, false, b.y, true);
  Tensor w = Tensor::full(c.shape(), alpha);
  for (std::int64_t i = 0; i < n; ++i) w.mutable_data<float>()[i * (n + 1)] = 1;
  const float *pc = c.data<float>(), *pw = w.data<float>();
  const Tensor weighted = map(c, [&](std::int64_t i) { return pw[i] * pc[i]; });
  const float* pv = weighted.data<float>();
  const Tensor square = map(c, [&](std::int64_t i) { return pv[i] * pv[i]; });
  const double norm = std::sqrt(sum_of(square));
  const Tensor dc =
      map(c, [&](std::int64_t i) { return pw[i] * pv[i] / static_cast<float>(norm); });
  return {norm, {a.back(product(dc, false, b.y, false)), b.back(product(dc, true, a.y, false))}};
}

/// Of the value, relative, and of each gradient, added up: NaN where there is one.
double difference(const Result& x, const Result& y) {
  double sum = std::abs(x.value - y.value) / std::abs(y.value);
  for (std::size_t g = 0; g < y.gradients.size(); ++g)
    sum += bench::relative_difference(x.gradients[g].span<float>(), y.gradients[g].span<float>());
  return sum;
}

template <class Run>
void measure(benchmark::State& state, Run&& run) {
  cpu_allocator().reset_peak();
  const std::size_t before = cpu_allocator().stats().live;
  run();
  state.counters["peak_MB"] = static_cast<double>(cpu_allocator().stats().peak - before) / 1e6;
  for (auto _ : state) benchmark::DoNotOptimize(run().value);
}

template <class Fused, class Naive>
void compare(benchmark::State& state, Fused&& run_fused, Naive&& run_naive, bool time_fused) {
  if (const double apart = difference(run_fused(), run_naive()); !(apart <= 1e-4)) {
    return bench::fail(state, fmt::format("fused and naive differ by {}", apart));
  }
  time_fused ? measure(state, run_fused) : measure(state, run_naive);
}

void invariance(benchmark::State& state, bool time_fused) {
  const std::int64_t samples = state.range(0), environments = state.range(1);
  const Tensor z = normals({(environments + 1) * samples, kWidth}, 1);
  compare(
      state,
      [&] {
        return fused(
            {z}, [&](auto x) { return losses::invariance(x[0], static_cast<int>(environments)); });
      },
      [&] { return naive_invariance(z, environments); }, time_fused);
}

void decorrelation(benchmark::State& state, bool time_fused) {
  const std::int64_t samples = state.range(0);
  const double alpha = static_cast<double>(state.range(1)) / 100;
  const Tensor zi = normals({samples, kWidth}, 1), zs = normals({samples, kWidth}, 2);
  compare(
      state,
      [&] {
        return fused({zi, zs},
                     [&](auto z) { return losses::decorrelation(z[0], z[1], {.alpha = alpha}); });
      },
      [&] { return naive_decorrelation(zi, zs, static_cast<float>(alpha)); }, time_fused);
}

bench::Function invariance_of(bool time_fused) {
  return [=](benchmark::State& state) { invariance(state, time_fused); };
}
bench::Function decorrelation_of(bool time_fused) {
  return [=](benchmark::State& state) { decorrelation(state, time_fused); };
}

const bench::Table kInvariance{{"N", "K"},
                               {{48, 1}, {48, 4}, {48, 10}, {512, 1}, {512, 4}, {512, 10}},
                               {},
                               {{4096, 1}, {4096, 4}, {4096, 10}}};
const bench::Table kDecorrelation{
    {"N", "alpha%"}, {{48, 100}, {48, 10}, {512, 100}, {512, 10}}, {}, {{4096, 100}, {4096, 10}}};
const bench::Register registered{{
    bench::on_cpu("invariance_loss", "cpu", kInvariance, invariance_of(true)),
    bench::on_cpu("invariance_loss", "naive", kInvariance, invariance_of(false)),
    bench::on_cpu("decorrelation_loss", "cpu", kDecorrelation, decorrelation_of(true)),
    bench::on_cpu("decorrelation_loss", "naive", kDecorrelation, decorrelation_of(false)),
}};

}  // namespace
}  // namespace cmir
