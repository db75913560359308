#include "models/training/optimizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/formats/safetensors.h"
#include "core/philox.h"
#include "tests/message_of.h"

namespace cmir {
namespace {

using ::testing::HasSubstr;

Tensor normals(const Shape& shape, std::uint32_t step, DType dtype = DType::f32) {
  Tensor tensor = Tensor::empty(shape, DType::f32);
  const RandomStream stream{.seed = 5, .step = step};
  for (std::int64_t i = 0; i < tensor.numel(); ++i)
    tensor.mutable_data<float>()[i] = stream.normal(i);
  return tensor.to(dtype);
}

void expect_near(const Tensor& actual, const Tensor& expected, double tolerance,
                 const std::string& what) {
  const auto a = actual.to_vector(), e = expected.to_vector();
  ASSERT_EQ(a.size(), e.size()) << what;
  for (std::size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(a[i], e[i], tolerance) << what << " element " << i;
}

bool same_bits(const Tensor& a, const Tensor& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.raw(), b.raw(), a.bytes()) == 0;
}

/// weight [3, 5] and bias [5] with a gradient that depends on the step.
struct Problem {
  Variable weight, bias;

  explicit Problem(DType dtype = DType::f32)
      : weight(normals({3, 5}, 100, dtype), true), bias(normals({5}, 101, dtype), true) {}
  ParameterList parameters() const { return {{"weight", weight}, {"bias", bias}}; }
  void set_gradients(std::uint32_t step) const {
    weight.node()->gradient = normals({3, 5}, 2 * step, weight.dtype());
    bias.node()->gradient = normals({5}, 2 * step + 1, bias.dtype());
  }
};

TEST(AdamW, FollowsTorchOverTenClippedSteps) {
  const auto fixture = SafeTensors::open(CMIR_SOURCE_DIR "/tests/fixtures/adamw.safetensors");
  const Variable weight(fixture.at("initial.weight").clone(), true),
      bias(fixture.at("initial.bias").clone(), true);
  AdamWGroup decayed{
      .parameters = {{"weight", weight}}, .learning_rate = 0.01, .weight_decay = 0.1};
  AdamWGroup plain{.parameters = {{"bias", bias}}, .learning_rate = 0.02, .weight_decay = 0.0};
  for (AdamWGroup* group : {&decayed, &plain}) {
    group->beta1 = 0.8;
    group->beta2 = 0.95;
    group->epsilon = 1e-6;
  }
  AdamW optimizer({decayed, plain});
  for (int i = 0; i < 10; ++i) {
    weight.node()->gradient = fixture.at(fmt::format("gradient.weight.{}", i));
    bias.node()->gradient = fixture.at(fmt::format("gradient.bias.{}", i));
    const double norm = optimizer.step(1.0 / (i + 1), 1.5);
    EXPECT_NEAR(norm, fixture.at("norms").to_vector()[i], 1e-5);
    expect_near(weight.value(), fixture.at(fmt::format("after.weight.{}", i)), 2e-6,
                fmt::format("weight, step {}", i));
    expect_near(bias.value(), fixture.at(fmt::format("after.bias.{}", i)), 2e-6,
                fmt::format("bias, step {}", i));
  }
  EXPECT_EQ(optimizer.step_count(), 10);
  const auto state = optimizer.state();
  expect_near(state.at("adamw.first_moment.weight"), fixture.at("first_moment.weight"), 1e-6,
              "first moment");
  expect_near(state.at("adamw.second_moment.weight"), fixture.at("second_moment.weight"), 1e-6,
              "second moment");
}

TEST(AdamW, BiasAndNormAreDecayedOnlyIfAsked) {
  for (const bool decay : {true, false}) {
    const Problem problem(DType::f64);
    AdamW optimizer({{.parameters = problem.parameters(),
                      .learning_rate = 0.5,
                      .weight_decay = 0.5,
                      .decay_bias_and_norm = decay}});
    const Tensor weight = problem.weight.value().clone(), bias = problem.bias.value().clone();
    problem.weight.node()->gradient = Tensor::zeros({3, 5}, DType::f64);
    problem.bias.node()->gradient = Tensor::zeros({5}, DType::f64);
    optimizer.step();
    EXPECT_DOUBLE_EQ(problem.weight.value().to_vector()[1], 0.75 * weight.to_vector()[1]);
    EXPECT_DOUBLE_EQ(problem.bias.value().to_vector()[1],
                     (decay ? 0.75 : 1.0) * bias.to_vector()[1]);
  }
}

TEST(AdamW, AParameterWithoutGradientIsNotTouched) {
  const Problem problem;
  AdamW optimizer({{.parameters = problem.parameters()}});
  const Tensor before = problem.bias.value().clone();
  problem.weight.node()->gradient = normals({3, 5}, 1);
  EXPECT_GT(optimizer.step(), 0);
  EXPECT_TRUE(same_bits(problem.bias.value(), before));
  optimizer.zero_gradients();
  EXPECT_FALSE(problem.weight.gradient().defined());
  EXPECT_EQ(optimizer.step(), 0);
}

TEST(AdamW, ANonFiniteGradientIsNamedAndChangesNothing) {
  const Problem problem;
  AdamW optimizer({{.parameters = problem.parameters()}});
  problem.set_gradients(1);
  problem.bias.node()->gradient.mutable_data<float>()[4] = std::numeric_limits<float>::infinity();
  const Tensor before = problem.weight.value().clone();
  try {
    optimizer.step();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
    EXPECT_THAT(error.what(), HasSubstr("'bias'"));
  }
  EXPECT_TRUE(same_bits(problem.weight.value(), before));
  EXPECT_EQ(optimizer.step_count(), 0);
}

TEST(AdamW, ResumesWithTheSameBits) {
  const Problem whole, parted;
  AdamW optimizer({{.parameters = whole.parameters()}});
  AdamW first({{.parameters = parted.parameters()}});
  const auto run = [](AdamW& adamw, const Problem& problem, int begin, int end) {
    for (int i = begin; i < end; ++i) {
      problem.set_gradients(i);
      adamw.step(1.0, 1.0);
    }
  };
  run(optimizer, whole, 0, 6);
  run(first, parted, 0, 3);
  auto saved = first.state();
  for (auto& [name, tensor] : saved) tensor = tensor.clone();
  saved.emplace("model.weight", Tensor::zeros({1}));  // a checkpoint holds other things too
  AdamW second({{.parameters = parted.parameters()}});
  second.load_state(saved);
  EXPECT_EQ(second.step_count(), 3);
  run(second, parted, 3, 6);
  EXPECT_TRUE(same_bits(whole.weight.value(), parted.weight.value()));
  EXPECT_TRUE(same_bits(whole.bias.value(), parted.bias.value()));
}

TEST(AdamW, TheStateOfAnotherModelIsRefusedAndChangesNothing) {
  const Problem problem;
  AdamW optimizer({{.parameters = problem.parameters()}});
  const auto refuse = [&](auto&& change) {
    auto state = optimizer.state();
    for (auto& [name, tensor] : state) tensor = Tensor::full(tensor.shape(), 9, tensor.dtype());
    change(state);
    const auto message = message_of([&] { optimizer.load_state(state); });
    EXPECT_EQ(optimizer.state().at("adamw.first_moment.bias").to_vector()[0], 0);
    EXPECT_EQ(optimizer.step_count(), 0);
    return message;
  };
  EXPECT_THAT(refuse([](auto& state) { state.erase("adamw.second_moment.bias"); }),
              HasSubstr("no 'adamw.second_moment.bias'"));
  EXPECT_THAT(refuse([](auto& state) { state["adamw.first_moment.other"] = Tensor::zeros({1}); }),
              HasSubstr("'adamw.first_moment.other'"));
  EXPECT_THAT(refuse([](auto& state) {
                state["adamw.first_moment.weight"] = Tensor::zeros({5, 3});
              }),
              HasSubstr("f32[5, 3]"));
}

TEST(AdamW, RefusesParametersThatDoNotGoTogether) {
  const Problem single, wide(DType::f64);
  EXPECT_THAT(message_of([&] {
                AdamW({{.parameters = {{"a", single.bias}, {"a", single.weight}}}});
              }),
              HasSubstr("'a' is given twice"));
  EXPECT_THAT(message_of([&] {
                AdamW({{.parameters = {{"a", single.bias}, {"b", wide.bias}}}});
              }),
              HasSubstr("'b' is f64[5]"));
  const Variable frozen(Tensor::zeros({2}));
  EXPECT_EQ(AdamW({{.parameters = {{"frozen", frozen}}}}).state().size(), 1U);
}

}  // namespace
}  // namespace cmir
