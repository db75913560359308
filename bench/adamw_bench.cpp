// AdamW over many tensors in one call against one loop per tensor and per operation, as a plain
// implementation has it.
#include "kernels/optimizer/adamw.h"

#include "bench/harness.h"

namespace cmir::kernels {
namespace {

using namespace bench;

constexpr double kRate = 1e-3, kDecay = 0.01, kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8;
constexpr std::int64_t kStep = 10;

/// Layers of a network: a matrix [width, width] and a bias [width] each.
struct Parameters {
  std::vector<Array<float>> p, g, m, v;
  Array<AdamWTensor<float>> tensors;
  Array<const float*> gradients;
  Array<std::int64_t> offsets;
  Array<AdamWScalars> scalars{std::vector{AdamWScalars{.step = kStep}}};
  std::int64_t count = 0;

  explicit Parameters(const benchmark::State& state) {
    const std::int64_t layers = state.range(0), width = state.range(1);
    std::vector<std::int64_t> ends{0};
    for (std::int64_t i = 0; i < 2 * layers; ++i) {
      const std::int64_t size = i % 2 == 0 ? width * width : width;
      p.emplace_back(normals(size, 4 * i));
      g.emplace_back(normals(size, 4 * i + 1));
      m.emplace_back(normals(size, 4 * i + 2));
      std::vector<float> squares = normals(size, 4 * i + 3);
      for (float& x : squares) x *= x;
      v.emplace_back(std::move(squares));
      ends.push_back(count += size);
    }
    std::vector<AdamWTensor<float>> pointers;
    std::vector<const float*> gradient_pointers;
    for (std::size_t i = 0; i < p.size(); ++i) {
      pointers.push_back({p[i].data(), g[i].data(), m[i].data(), v[i].data()});
      gradient_pointers.push_back(g[i].data());
    }
    tensors = std::move(pointers);
    gradients = std::move(gradient_pointers);
    offsets = std::move(ends);
  }
  AdamWStep<float> step() {
    return {tensors.data(), offsets.data(), tensors.size(), kRate,         kDecay,
            kBeta1,         kBeta2,         kEpsilon,       scalars.data()};
  }
};

/// The formula, one whole-tensor operation after another.
void naive_step(Parameters& x) {
  const auto correction1 = static_cast<float>(1 - std::pow(kBeta1, kStep));
  const auto correction2 = static_cast<float>(std::sqrt(1 - std::pow(kBeta2, kStep)));
  for (std::size_t i = 0; i < x.p.size(); ++i) {
    std::vector<float>&p = x.p[i].host(), &m = x.m[i].host(), &v = x.v[i].host();
    const Array<float>& g = x.g[i];
    std::vector<float> denominator(p.size());
    for (float& value : p) value *= static_cast<float>(1 - kRate * kDecay);
    for (std::size_t j = 0; j < m.size(); ++j)
      m[j] += static_cast<float>(1 - kBeta1) * (g[j] - m[j]);
    for (float& value : v) value *= static_cast<float>(kBeta2);
    for (std::size_t j = 0; j < v.size(); ++j) v[j] += static_cast<float>(1 - kBeta2) * g[j] * g[j];
    for (std::size_t j = 0; j < v.size(); ++j)
      denominator[j] = std::sqrt(v[j]) / correction2 + static_cast<float>(kEpsilon);
    for (std::size_t j = 0; j < p.size(); ++j)
      p[j] -= static_cast<float>(kRate) / correction1 * m[j] / denominator[j];
  }
}

/// p.I, g.I, m.I and v.I before the step, and out.p.I after it.
NamedTensors step_tensors(const benchmark::State& state, Parameters& after) {
  Parameters before(state);
  NamedTensors tensors;
  for (std::size_t i = 0; i < before.p.size(); ++i) {
    tensors.emplace_back(fmt::format("p.{}", i), tensor_of(before.p[i]));
    tensors.emplace_back(fmt::format("g.{}", i), tensor_of(before.g[i]));
    tensors.emplace_back(fmt::format("m.{}", i), tensor_of(before.m[i]));
    tensors.emplace_back(fmt::format("v.{}", i), tensor_of(before.v[i]));
    tensors.emplace_back(fmt::format("out.p.{}", i), tensor_of(after.p[i]));
  }
  return tensors;
}

void adamw(benchmark::State& state) {
  Parameters x(state);
  measure(
      state, x.step(),
      [&] {
        hand_over(state, [&] { return step_tensors(state, x); });
        Parameters plain(state);
        naive_step(plain);
        for (std::size_t i = 0; i < x.p.size(); ++i) {
          if (!agree(state, x.p[i], plain.p[i].host(), 5e-5)) return false;
        }
        return true;
      },
      x.count);
}
void adamw_naive(benchmark::State& state) {
  Parameters x(state);
  time_calls(
      state, [&] { naive_step(x); }, cost_of(x.step(), x.count));
}
void squared_norm(benchmark::State& state) {
  Parameters x(state);
  Array<SquaredNormPartial> workspace(squared_norm_workspace(x.count)), result(1);
  const SquaredNorm<float> args{x.gradients.data(), x.offsets.data(), x.gradients.size(),
                                workspace.data(), result.data()};
  measure(
      state, args,
      [&] {
        double expected = 0;
        for (const auto& g : x.g) {
          for (const float value : g) expected += static_cast<double>(value) * value;
        }
        return agree(state, std::vector{result.fetch()[0].sum}, std::vector{expected},
                     1e-10 * expected);
      },
      x.count);
}

/// Of a step with a gradient of norm 5, clipped to 1.
void adamw_prepare(benchmark::State& state) {
  Array<SquaredNormPartial> norm(std::vector{SquaredNormPartial{25, -1}});
  Array<double> factors(std::vector{1.0, 0.5}), loss_values(state.range(0));
  Array<float> losses(normals(state.range(0), 1));
  std::vector<const float*> addresses;
  for (std::int64_t i = 0; i < losses.size(); ++i) addresses.push_back(losses.data() + i);
  Array<const float*> loss_addresses(std::move(addresses));
  Array<AdamWScalars> scalars(std::vector{AdamWScalars{.step = 1}});
  Array<AdamWReport> report(1);
  const AdamWPrepare<float> args{
      norm.data(),    factors.data(), factors.size(),    1.0, loss_addresses.data(), losses.size(),
      scalars.data(), report.data(),  loss_values.data()};
  measure(state, args, [&] {
    const AdamWScalars after = scalars.fetch()[0];
    const AdamWReport said = report.fetch()[0];
    return agree(
               state,
               std::vector<double>{double(after.step), after.learning_rate_factor,
                                   after.gradient_scale, double(after.stopped), said.gradient_norm,
                                   double(said.nonfinite_tensor), double(said.nonfinite_loss)},
               std::vector<double>{2, 0.5, 0.2, 0, 5, -1, -1}, 1e-6) &&
           agree(state, loss_values, losses.host(), 0);
  });
}

// Small layers, those of the MOSI configuration, and more than the caches hold.
const Table kTable = {{"layers", "width"}, {{40, 16}, {20, 150}, {12, 1024}}, {{12, 2048}}};
const Register registered{{
    kernel<AdamWStep<float>>(kTable, adamw),
    peer<AdamWStep<float>>("naive", kTable, adamw_naive),
    kernel<SquaredNorm<float>>(kTable, squared_norm),
    reference<SquaredNorm<float>>(kTable, squared_norm),
    kernel<AdamWPrepare<float>>({{"losses"}, {{11}}}, adamw_prepare),
}};

}  // namespace
}  // namespace cmir::kernels
