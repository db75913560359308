// Every function of kernels/cpu/vector_math.h over its range: the figures asserted here are the
// ones its comments state.
#include "kernels/cpu/vector_math.h"

#include <functional>
#include <iostream>

#include "tests/kernels/kernel_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;
using Map = std::function<void(const float*, float*, std::int64_t)>;

template <class F>
void map_baseline(F f, const float* x, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = f(x[i]);
}
#if defined(__x86_64__)
/// With fused multiply-add, as in the AVX2 and AVX-512 kernels.
template <class F>
[[gnu::target("avx2,fma"), gnu::optimize("fp-contract=fast")]] void map_fma(F f, const float* x,
                                                                            float* y,
                                                                            std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = f(x[i]);
}
#endif

/// The function without and, where the CPU has it, with fused multiply-add.
template <class F>
std::vector<Map> variants(F f) {
  std::vector<Map> maps{[f](auto... a) { map_baseline(f, a...); }};
#if defined(__x86_64__)
  if (cpu_supports(Isa::avx2)) maps.emplace_back([f](auto... a) { map_fma(f, a...); });
#endif
  return maps;
}

/// `count` floats from low to high, evenly spaced.
std::vector<float> grid(double low, double high, std::int64_t count = 400001) {
  std::vector<float> values(count);
  for (std::int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(low + (high - low) * static_cast<double>(i) /
                                             static_cast<double>(count - 1));
  }
  return values;
}
/// Floats of either sign spread evenly over the exponents from 2^low to 2^high.
std::vector<float> all_magnitudes(int low, int high) {
  std::vector<float> values;
  for (const double exponent : grid(low, high, 50001)) {
    values.push_back(static_cast<float>(std::exp2(exponent)));
    values.push_back(-values.back());
  }
  return values;
}

using Oracle = double (*)(double);
using Scale = std::function<double(double x, double expected)>;  // the error is divided by this
double relative(double, double expected) { return std::abs(expected); }
double absolute(double, double) { return 1; }

/// The largest error of any variant, and where.
void expect_error(const std::vector<Map>& maps, const std::vector<float>& xs, Oracle oracle,
                  const Scale& scale, double bound) {
  std::vector<float> ys(xs.size());
  for (const Map& map : maps) {
    map(xs.data(), ys.data(), static_cast<std::int64_t>(xs.size()));
    double worst = 0, where = 0;
    for (std::size_t i = 0; i < xs.size(); ++i) {
      const double expected = oracle(xs[i]);
      const double error = std::abs(ys[i] - expected) / scale(xs[i], expected);
      if (!(error <= worst)) worst = error, where = xs[i];
      if (std::isnan(error)) break;
    }
    EXPECT_LE(worst, bound) << "at " << where;
    EXPECT_FALSE(std::isnan(worst)) << "at " << where;
    std::cout << "[ measured ] " << worst << " at " << where << "\n";
  }
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

void expect_values(const std::vector<Map>& maps,
                   const std::vector<std::pair<float, float>>& pairs) {
  for (const Map& map : maps) {
    for (const auto& [x, expected] : pairs) {
      float y;
      map(&x, &y, 1);
      EXPECT_TRUE(y == expected || (std::isnan(y) && std::isnan(expected)))
          << "at " << x << " is " << y;
    }
  }
}

TEST(VectorMath, Exp) {
  const auto maps = variants([](float x) __attribute__((always_inline)) { return cpu::exp(x); });
  expect_error(maps, grid(-87.3, 88.72), std::exp, relative, 2e-7);
  expect_error(maps, all_magnitudes(-126, 0), std::exp, relative, 2e-7);
  expect_values(maps, {{0.0F, 1.0F},
                       {-0.0F, 1.0F},
                       {-87.4F, 0.0F},
                       {-1e30F, 0.0F},
                       {-kInfinity, 0.0F},
                       {88.73F, kInfinity},
                       {88.72284F, kInfinity},
                       {1e30F, kInfinity},
                       {kInfinity, kInfinity},
                       {kNan, kNan}});
}

TEST(VectorMath, Log) {
  const auto maps = variants([](float x) __attribute__((always_inline)) { return cpu::log(x); });
  auto xs = all_magnitudes(-126, 127);
  std::erase_if(xs, [](float x) { return x < 0 || std::abs(std::log(x)) <= 0.1; });
  expect_error(maps, xs, std::log, relative, 2e-7);
  expect_error(maps, grid(std::exp(-0.1), std::exp(0.1)), std::log, absolute, 2e-8);
  expect_values(maps, {{1.0F, 0.0F},
                       {0.0F, -kInfinity},
                       {1e-40F, -kInfinity},
                       {-1.0F, kNan},
                       {-kInfinity, kNan},
                       {kInfinity, kInfinity},
                       {kNan, kNan}});
}

TEST(VectorMath, Log1pUnit) {
  const auto maps =
      variants([](float x) __attribute__((always_inline)) { return cpu::log1p_unit(x); });
  auto xs = all_magnitudes(-126, 0);
  std::erase_if(xs, [](float x) { return x < 0; });
  expect_error(maps, xs, std::log1p, relative, 3e-7);
  expect_values(maps, {{0.0F, 0.0F}, {kNan, kNan}});
}

TEST(VectorMath, Sigmoid) {
  const auto maps =
      variants([](float x) __attribute__((always_inline)) { return cpu::sigmoid(x); });
  const Oracle oracle = [](double x) { return 1 / (1 + std::exp(-x)); };
  expect_error(maps, grid(-87.3, 100), oracle, relative, 4e-7);
  expect_error(maps, all_magnitudes(-126, 6), oracle, relative, 4e-7);
  expect_values(maps,
                {{0.0F, 0.5F}, {-kInfinity, 0.0F}, {kInfinity, 1.0F}, {1e30F, 1.0F}, {kNan, kNan}});
}

TEST(VectorMath, Softplus) {
  const auto maps =
      variants([](float x) __attribute__((always_inline)) { return cpu::softplus(x); });
  const Oracle oracle = [](double x) {
    return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
  };
  expect_error(maps, grid(-87.3, 100), oracle, relative, 4e-7);
  expect_error(maps, all_magnitudes(-126, 6), oracle, relative, 4e-7);
  expect_values(maps, {{-kInfinity, 0.0F}, {kInfinity, kInfinity}, {1e30F, 1e30F}, {kNan, kNan}});
}

TEST(VectorMath, Tanh) {
  const auto maps = variants([](float x) __attribute__((always_inline)) { return cpu::tanh(x); });
  expect_error(
      maps, grid(-20, 20), std::tanh, [](double, double e) { return std::max(std::abs(e), 1e-30); },
      3e-7);
  expect_error(maps, all_magnitudes(-126, 127), std::tanh, relative, 3e-7);
  expect_values(maps, {{0.0F, 0.0F}, {-kInfinity, -1.0F}, {kInfinity, 1.0F}, {kNan, kNan}});
}

TEST(VectorMath, NormalDistribution) {
  const auto cdf = variants([](float x) __attribute__((always_inline)) {
    float density;
    return cpu::normal_cdf(x, density);
  });
  const auto density = variants([](float x) __attribute__((always_inline)) {
    float d;
    cpu::normal_cdf(x, d);
    return d;
  });
  const Oracle normal_cdf = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  const Oracle normal_density = [](double x) {
    return std::exp(-0.5 * x * x) / std::sqrt(8 * std::atan(1.0));
  };
  const Scale tail = [](double x, double expected) { return (3 + 0.5 * x * x) * expected; };
  expect_error(cdf, grid(-13.2, 30), normal_cdf, tail, 2e-7);
  expect_error(cdf, all_magnitudes(-126, 3), normal_cdf, tail, 2e-7);
  expect_error(density, grid(-13.2, 13.2), normal_density, tail, 2e-7);
  expect_values(
      cdf, {{-kInfinity, 0.0F}, {-1e30F, 0.0F}, {kInfinity, 1.0F}, {1e30F, 1.0F}, {kNan, kNan}});
  EXPECT_NEAR(
      [] {
        float d;
        return cpu::normal_cdf(0.0F, d);
      }(),
      0.5F, 1e-7);
}

TEST(VectorMath, CosSinTurn) {
  const auto cosine = variants([](float x) __attribute__((always_inline)) {
    float c, s;
    cpu::cos_sin_turn(x, c, s);
    return c;
  });
  const auto sine = variants([](float x) __attribute__((always_inline)) {
    float c, s;
    cpu::cos_sin_turn(x, c, s);
    return s;
  });
  const auto turns = grid(0, std::nextafter(1.0F, 0.0F));
  expect_error(
      cosine, turns, [](double u) { return std::cos(8 * std::atan(1.0) * u); }, absolute, 2e-7);
  expect_error(
      sine, turns, [](double u) { return std::sin(8 * std::atan(1.0) * u); }, absolute, 2e-7);
}

}  // namespace
}  // namespace cmir::kernels
