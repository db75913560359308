// AdamW over many tensors in one call against one loop per tensor and per operation, as a plain
// implementation has it.
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <vector>

#include "core/philox.h"
#include "kernels/optimizer/adamw.h"

namespace cmir::kernels {
namespace {

constexpr double kRate = 1e-3, kDecay = 0.01, kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
constexpr std::int64_t kStep = 10;

/// Layers of a network: a matrix [width, width] and a bias [width] each.
struct Parameters {
  std::vector<std::vector<float>> p, g, m, v;
  std::vector<AdamWTensor<float>> tensors;
  std::vector<const float*> gradients;
  std::vector<std::int64_t> offsets{0};

  Parameters(std::int64_t layers, std::int64_t width) {
    for (std::int64_t i = 0; i < 2 * layers; ++i) {
      const std::int64_t count = i % 2 == 0 ? width * width : width;
      const auto make = [&](std::uint64_t seed, bool square) {
        std::vector<float> values(count);
        const RandomStream stream{.seed = seed, .step = static_cast<std::uint32_t>(i)};
        for (std::int64_t j = 0; j < count; ++j)
          values[j] = square ? std::pow(stream.normal(j), 2.0F) : stream.normal(j);
        return values;
      };
      p.push_back(make(1, false));
      g.push_back(make(2, false));
      m.push_back(make(3, false));
      v.push_back(make(4, true));
      offsets.push_back(offsets.back() + count);
    }
    for (std::size_t i = 0; i < p.size(); ++i) {
      tensors.push_back({p[i].data(), g[i].data(), m[i].data(), v[i].data()});
      gradients.push_back(g[i].data());
    }
  }
  AdamWScalars scalars{.step = kStep};
  AdamWStep<float> step() const {
    return {tensors.data(), offsets.data(), static_cast<std::int64_t>(tensors.size()),
            kRate,          kDecay,         kBeta1,
            kBeta2,         kEpsilon,       &scalars};
  }
};

/// The formula, one whole-tensor operation after another.
void naive_step(Parameters& x) {
  const auto correction1 = static_cast<float>(1 - std::pow(kBeta1, kStep));
  const auto correction2 = static_cast<float>(std::sqrt(1 - std::pow(kBeta2, kStep)));
  for (std::size_t i = 0; i < x.p.size(); ++i) {
    std::vector<float> denominator(x.p[i].size());
    for (float& p : x.p[i]) p *= static_cast<float>(1 - kRate * kDecay);
    for (std::size_t j = 0; j < x.m[i].size(); ++j)
      x.m[i][j] += static_cast<float>(1 - kBeta1) * (x.g[i][j] - x.m[i][j]);
    for (float& v : x.v[i]) v *= static_cast<float>(kBeta2);
    for (std::size_t j = 0; j < x.v[i].size(); ++j)
      x.v[i][j] += static_cast<float>(1 - kBeta2) * x.g[i][j] * x.g[i][j];
    for (std::size_t j = 0; j < x.v[i].size(); ++j)
      denominator[j] = std::sqrt(x.v[i][j]) / correction2 + static_cast<float>(kEpsilon);
    for (std::size_t j = 0; j < x.p[i].size(); ++j)
      x.p[i][j] -= static_cast<float>(kRate) / correction1 * x.m[i][j] / denominator[j];
  }
}

void verify(std::int64_t layers, std::int64_t width, benchmark::State& state) {
  Parameters fused(layers, width), naive(layers, width);
  run({}, fused.step());
  naive_step(naive);
  for (std::size_t i = 0; i < fused.p.size(); ++i) {
    for (std::size_t j = 0; j < fused.p[i].size(); ++j) {
      if (!(std::abs(fused.p[i][j] - naive.p[i][j]) <= 1e-5F * (1 + std::abs(naive.p[i][j])))) {
        state.SkipWithError("the two disagree");
        return;
      }
    }
  }
}

void count(benchmark::State& state, double bytes) {
  state.counters["bytes/s"] = benchmark::Counter(
      bytes, benchmark::Counter::kIsIterationInvariantRate, benchmark::Counter::kIs1024);
}

void adamw_fused(benchmark::State& state) {
  verify(state.range(0), state.range(1), state);
  Parameters x(state.range(0), state.range(1));
  for (auto _ : state) run({}, x.step());
  count(state, x.step().bytes());
}
void adamw_naive(benchmark::State& state) {
  verify(state.range(0), state.range(1), state);
  Parameters x(state.range(0), state.range(1));
  for (auto _ : state) naive_step(x);
  count(state, x.step().bytes());
}
void squared_norm(benchmark::State& state) {
  Parameters x(state.range(0), state.range(1));
  std::vector<SquaredNormPartial> workspace(squared_norm_workspace(x.offsets.back()));
  SquaredNormPartial result{};
  const SquaredNorm<float> args{x.gradients.data(), x.offsets.data(),
                                static_cast<std::int64_t>(x.gradients.size()), workspace.data(),
                                &result};
  double expected = 0;
  for (const auto& g : x.g) {
    for (const float value : g) expected += static_cast<double>(value) * value;
  }
  run({}, args);
  if (!(std::abs(result.sum - expected) <= 1e-10 * expected))
    state.SkipWithError("the two disagree");
  for (auto _ : state) run({}, args);
  count(state, args.bytes());
}

// Small layers, those of the MOSI configuration, and more than the caches hold.
BENCHMARK(adamw_fused)->Args({40, 16})->Args({20, 150})->Args({12, 1024})->UseRealTime();
BENCHMARK(adamw_naive)->Args({40, 16})->Args({20, 150})->Args({12, 1024})->UseRealTime();
BENCHMARK(squared_norm)->Args({40, 16})->Args({20, 150})->Args({12, 1024})->UseRealTime();

}  // namespace
}  // namespace cmir::kernels
