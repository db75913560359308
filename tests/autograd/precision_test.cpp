// What bf16 and tf32 do to the ops that multiply matrices, and what they leave alone.
#include "autograd/precision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <thread>

#include "autograd/conv1d.h"
#include "autograd/gradcheck.h"
#include "autograd/linear.h"
#include "core/allocator.h"
#include "kernels/matrix/gemm.h"
#include "kernels/matrix/linear.h"
#include "kernels/matrix/linear_backward.h"

namespace cmir {
namespace {

using ::testing::HasSubstr;
using Function = std::function<Variable(std::span<const Variable>)>;

const Device kSimt{DeviceType::simt};
constexpr double kBf16Rounding = 0x1p-8;  // largest relative error of rounding to bf16

struct Result {
  std::vector<double> output;
  std::vector<std::vector<double>> gradients;
  bool operator==(const Result&) const = default;
};

/// Output and gradients with the cotangent `seed`. Scopes: of forward, and of backward.
Result run(const Function& function, const std::vector<Tensor>& inputs, const Tensor& seed,
           DType dtype, Device device = {}, Precision forward = Precision::f32,
           Precision at_backward = Precision::f32) {
  std::vector<Variable> variables;
  for (const Tensor& input : inputs) variables.emplace_back(input.to(dtype).to(device), true);
  const Variable output = [&] {
    const PrecisionScope scope(forward);
    return function(variables);
  }();
  const PrecisionScope scope(at_backward);
  backward(output, {.seed = seed.to(dtype).to(device)});
  Result result{output.value().to_vector(), {}};
  for (const Variable& variable : variables)
    result.gradients.push_back(variable.gradient().to_vector());
  return result;
}

Tensor mapped(const Tensor& tensor, double (*f)(double)) {
  Tensor result = tensor.clone();
  for (double& x : result.mutable_span<double>()) x = f(x);
  return result;
}
std::vector<Tensor> mapped(const std::vector<Tensor>& tensors, double (*f)(double)) {
  std::vector<Tensor> results;
  for (const Tensor& tensor : tensors) results.push_back(mapped(tensor, f));
  return results;
}
double to_f32(double x) { return static_cast<float>(x); }
double to_bf16(double x) { return static_cast<float>(BFloat16(static_cast<float>(x))); }
double magnitude(double x) { return std::abs(x); }

/// |actual - expected| <= factor * magnitude, element by element.
void expect_within(const std::vector<double>& actual, const std::vector<double>& expected,
                   const std::vector<double>& magnitudes, double factor, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(std::abs(actual[i] - expected[i]) <= factor * magnitudes[i])
        << what << ", element " << i << ": " << actual[i] << " against " << expected[i]
        << ", allowed " << factor * magnitudes[i];
  }
}

struct Case {
  std::string name;
  std::vector<Tensor> inputs;  // x, weight, bias
  Function function;           // a product of x and weight, plus bias
  bool bias_sums_rounded;      // its gradient is a sum of elements that were rounded
  int terms;                   // of the longest sum

  /// A random cotangent.
  Tensor seed() const {
    const std::vector<Variable> variables(inputs.begin(), inputs.end());
    return random_normal(function(variables).shape(), 4);
  }
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const auto& [rows, in, out] :
       {std::tuple{1, 1, 1}, {7, 9, 17}, {33, 31, 8}, {130, 150, 67}, {3, 300, 5}}) {
    all.push_back(
        {fmt::format("linear {} {} {}", rows, in, out),
         {random_normal({rows, in}, 1), random_normal({out, in}, 2), random_normal({out}, 3)},
         [](std::span<const Variable> v) { return ops::linear(v[0], v[1], v[2]); },
         false,
         std::max({rows, in, out})});
  }
  for (const auto& [in, out, taps] :
       {std::tuple{1, 1, 1}, {5, 9, 3}, {35, 30, 3}, {20, 33, 5}, {74, 40, 1}}) {
    const Tensor offsets = Tensor::from<std::int64_t>({0, 3, 3, 4, 60, 93}, {6});
    all.push_back(
        {fmt::format("conv1d {} {} {}", in, out, taps),
         {random_normal({93, in}, 1), random_normal({out, in, taps}, 2), random_normal({out}, 3)},
         [offsets](std::span<const Variable> v) { return ops::conv1d(v[0], offsets, v[1], v[2]); },
         true,
         std::max({93, in * taps, out * taps})});
  }
  return all;
}

/// The bounds of docs/precision.md. Sums of |a b| and the like come from the same op in f64, whose
/// gradients are checked elsewhere.
TEST(Bf16, OpsMultiplyRoundedFactorsWithinTheirBound) {
  for (const Device device : {Device{}, kSimt}) {
    for (const Case& c : cases()) {
      SCOPED_TRACE(c.name + " on " + device.to_string());
      const auto inputs = mapped(c.inputs, to_f32);
      const Tensor seed = mapped(c.seed(), to_f32);
      const Result bf16 = run(c.function, inputs, seed, DType::f32, device, Precision::bf16);
      const Result exact = run(c.function, inputs, seed, DType::f64);
      const Result sizes =
          run(c.function, mapped(inputs, magnitude), mapped(seed, magnitude), DType::f64);
      std::vector<Tensor> factors = mapped(inputs, to_bf16);
      factors[2] = inputs[2];  // the bias is no factor
      Result rounded = run(c.function, factors, mapped(seed, to_bf16), DType::f64);
      if (!c.bias_sums_rounded) rounded.gradients[2] = exact.gradients[2];

      const double sums = (c.terms + 4) * std::numeric_limits<float>::epsilon();
      const double both = 2 * kBf16Rounding + kBf16Rounding * kBf16Rounding + sums;
      expect_within(bf16.output, rounded.output, sizes.output, sums, "output, rounded factors");
      expect_within(bf16.output, exact.output, sizes.output, both, "output");
      for (std::size_t i = 0; i < 3; ++i) {
        const std::string what = fmt::format("gradient {}", i);
        expect_within(bf16.gradients[i], rounded.gradients[i], sizes.gradients[i], sums,
                      what + ", rounded factors");
        expect_within(bf16.gradients[i], exact.gradients[i], sizes.gradients[i], both, what);
      }
    }
  }
}

/// Through activations the pre-activation's error meets their slope and curvature, both at
/// most 1.2.
TEST(Bf16, GradientsThroughActivationsAreNearThoseOfF64) {
  const std::vector<Tensor> inputs = {random_normal({2, 20, 30}, 1), random_normal({25, 30}, 2),
                                      random_normal({25}, 3)};
  const Tensor seed = random_normal({2, 20, 25}, 4);
  for (const auto activation : {Activation::gelu, Activation::tanh, Activation::sigmoid}) {
    const Function function = [activation](std::span<const Variable> v) {
      return ops::linear(v[0], v[1], v[2], activation);
    };
    for (const Device device : {Device{}, kSimt}) {
      const Result bf16 = run(function, inputs, seed, DType::f32, device, Precision::bf16);
      const Result exact = run(function, inputs, seed, DType::f64);
      expect_within(bf16.output, exact.output, std::vector<double>(1000, std::sqrt(30.0)),
                    4 * kBf16Rounding, "output");
      for (std::size_t i = 0; i < 3; ++i) {
        const auto count = static_cast<double>(i == 0 ? 25 : 40);  // terms of its sum
        expect_within(bf16.gradients[i], exact.gradients[i],
                      std::vector<double>(exact.gradients[i].size(), std::sqrt(count * 30)),
                      4 * kBf16Rounding, fmt::format("gradient {}", i));
      }
    }
  }
}

TEST(Bf16, BackwardHasThePrecisionOfItsForward) {
  for (const Case& c : cases()) {
    const Tensor seed = c.seed();
    const auto with = [&](Precision forward, Precision backward) {
      return run(c.function, c.inputs, seed, DType::f32, {}, forward, backward);
    };
    const Result bf16 = with(Precision::bf16, Precision::bf16), f32 = with({}, {});
    EXPECT_EQ(with(Precision::bf16, Precision::f32), bf16) << c.name;
    EXPECT_EQ(with(Precision::f32, Precision::bf16), f32) << c.name;
    EXPECT_NE(bf16.output, f32.output) << c.name;
    EXPECT_NE(bf16.gradients[0], f32.gradients[0]) << c.name;
    EXPECT_NE(bf16.gradients[1], f32.gradients[1]) << c.name;
  }
}

TEST(Bf16, LeavesF64Alone) {
  for (const Case& c : cases()) {
    const Tensor seed = c.seed();
    EXPECT_EQ(run(c.function, c.inputs, seed, DType::f64, {}, Precision::bf16, Precision::bf16),
              run(c.function, c.inputs, seed, DType::f64))
        << c.name;
  }
}

TEST(Bf16, InputsThatAreBf16AlreadyAreRefused) {
  const Variable x(Tensor::zeros({2, 3}, DType::bf16)), weight(Tensor::zeros({4, 3}, DType::bf16));
  const PrecisionScope scope(Precision::bf16);
  try {
    ops::linear(x, weight);
    FAIL() << "took bf16";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("linear: needs f32 or f64, got bf16"));
  }
}

/// Bytes that stay allocated between forward and backward, beside output and parameter.
std::int64_t kept_bytes(Precision precision) {
  const PrecisionScope scope(precision);
  const Variable weight(Tensor::full({64, 512}, 0.5), true);
  const auto before = static_cast<std::int64_t>(cpu_allocator().stats().live);
  const Variable y = ops::linear(Variable(Tensor::full({4096, 512}, 1)), weight);
  return static_cast<std::int64_t>(cpu_allocator().stats().live) - before -
         static_cast<std::int64_t>(y.value().bytes());
}

TEST(Bf16, KeepsHalfAsMuchForBackward) {
  EXPECT_EQ(kept_bytes(Precision::f32), 4096 * 512 * 4);
  EXPECT_EQ(kept_bytes(Precision::bf16), 4096 * 512 * 2);
}

TEST(Bf16, WhatWasKeptIsACopy) {
  Tensor x = Tensor::full({2, 3}, 1.5);
  const Variable weight(Tensor::full({4, 3}, 1), true);
  const Variable y = [&] {
    const PrecisionScope scope(Precision::bf16);
    return ops::linear(Variable(x), weight);
  }();
  x.fill(7);
  backward(y, {.seed = Tensor::full({2, 4}, 1)});
  EXPECT_EQ(weight.gradient().to_vector(), std::vector<double>(12, 3.0));
}

TEST(PrecisionScope, NestsAndIsOfOneThread) {
  EXPECT_EQ(current_precision(), Precision::f32);
  {
    const PrecisionScope outer(Precision::bf16);
    {
      const PrecisionScope inner(Precision::tf32);
      EXPECT_EQ(current_precision(), Precision::tf32);
    }
    EXPECT_EQ(current_precision(), Precision::bf16);
    std::thread([] { EXPECT_EQ(current_precision(), Precision::f32); }).join();
  }
  EXPECT_EQ(current_precision(), Precision::f32);
}

TEST(PrecisionScope, NamesOfPrecisions) {
  EXPECT_EQ(parse_precision("tf32"), Precision::tf32);
  EXPECT_EQ(parse_precision("bf16"), Precision::bf16);
  EXPECT_EQ(parse_precision("f32"), Precision::f32);
  try {
    parse_precision("fp16");
    FAIL() << "took fp16";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_THAT(error.what(), HasSubstr("'fp16' is none of f32, tf32, bf16"));
  }
}

/// The host model's kernel is one that notes `tf32` and goes on, while this lives.
template <class Args>
struct Spy {
  static inline std::vector<bool> seen;
  static inline typename kernels::Variants<Args>::Function before;
  Spy() {
    seen.clear();
    before = kernels::Variants<Args>::simt;
    kernels::Variants<Args>::simt = [](const Args& args) {
      seen.push_back(args.tf32);
      before(args);
    };
  }
  ~Spy() { kernels::Variants<Args>::simt = before; }
};

TEST(Tf32, ReachesTheThreeProductsOfALinearLayer) {
  const Case c = cases()[1];
  const Tensor seed = random_normal({7, 17}, 4);
  for (const Precision precision : {Precision::f32, Precision::tf32}) {
    const Spy<kernels::LinearForward<float>> forward;
    const Spy<kernels::Gemm<float>> gemm;
    const Spy<kernels::LinearWeightGradient<float>> weight;
    const Result result = run(c.function, c.inputs, seed, DType::f32, kSimt, precision);
    const bool tf32 = precision == Precision::tf32;
    EXPECT_EQ(forward.seen, (std::vector<bool>{tf32}));
    EXPECT_EQ(gemm.seen, (std::vector<bool>{tf32}));
    EXPECT_EQ(weight.seen, (std::vector<bool>{tf32}));
    EXPECT_EQ(result, run(c.function, c.inputs, seed, DType::f32, kSimt));  // on a GPU only
  }
}

}  // namespace
}  // namespace cmir
