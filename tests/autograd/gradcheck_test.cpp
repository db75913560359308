// Walks the registry of ops: every op must have gradient cases, and every case must pass. And the
// checker itself is checked: it must catch wrong gradients, which here come from nodes made by
// hand, so that no wrong op enters the registry.
#include "autograd/gradcheck.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace cmir {
namespace {

using ::testing::HasSubstr;

TEST(GradientCheck, EveryRegisteredOpPasses) {
  ASSERT_FALSE(registered_ops().empty());
  for (const OpReport& report : check_gradients(registered_ops())) {
    EXPECT_TRUE(report.gradient.passed)
        << report.op << ", case '" << report.name << "': relative error " << report.gradient.worst
        << " at " << report.gradient.where;
  }
}

/// Nothing that an op saved is changed, or counts as changed, by its backward: a graph that is kept
/// gives the same gradients again.
TEST(GradientCheck, AKeptGraphGivesTheSameGradientsAgain) {
  for (const OpInfo& op : registered_ops()) {
    for (const GradientCase& c : op.gradient_cases()) {
      SCOPED_TRACE(fmt::format("{}: {}", op.name, c.name));
      std::vector<Variable> inputs;
      for (const Tensor& input : c.inputs) inputs.emplace_back(input.clone(), true);
      const Variable y = c.function(inputs);
      const Tensor seed = random_normal(y.shape(), 3);
      std::vector<std::vector<double>> first;
      for (int pass = 0; pass < 2; ++pass) {
        for (Variable& input : inputs) input.clear_gradient();
        ASSERT_NO_THROW(backward(y, {.seed = seed, .retain_graph = true}));
        for (std::size_t i = 0; i < inputs.size(); ++i) {
          std::vector<double> gradient;
          if (inputs[i].gradient().defined()) {
            const Tensor values = inputs[i].gradient();
            gradient.assign(values.span<double>().begin(), values.span<double>().end());
          }
          if (pass == 0) first.push_back(gradient);
          EXPECT_EQ(gradient, first[i]) << "input " << i;
        }
      }
    }
  }
}

/// y = x_0^3 + ..., elementwise, with a backward that the test gives as a function of (x, dy).
struct CubeNode : Node {
  using Derivative = std::function<double(std::size_t i, double x, double dy)>;
  CubeNode(Tensor x_value, const Tensor& y, std::shared_ptr<Node> input, Derivative derivative)
      : Node("cube", y, {std::move(input)}), x(std::move(x_value)), f(std::move(derivative)) {}
  Gradients backward(const Tensor& dy) override {
    Tensor dx = Tensor::empty(x.shape(), DType::f64);
    for (std::size_t i = 0; i < dx.span<double>().size(); ++i) {
      dx.mutable_data<double>()[i] = f(i, x.data<double>()[i], dy.data<double>()[i]);
    }
    return {dx};
  }
  Tensor x;
  Derivative f;
};

GradientReport check_cube(CubeNode::Derivative derivative) {
  const auto function = [derivative](std::span<const Variable> inputs) {
    const Tensor& x = inputs[0].value();
    Tensor y = x.clone();
    for (double& value : y.mutable_span<double>()) value = value * value * value;
    if (!inputs[0].requires_gradient()) return Variable(y);
    return Variable(y, std::make_shared<CubeNode>(x, y, inputs[0].node(), derivative));
  };
  return check_gradient({"cube", {random_away_from_zero({3, 5}, 7)}, function});
}

double right(double x, double dy) { return 3 * x * x * dy; }

TEST(GradientCheck, AcceptsTheRightGradient) {
  const auto report = check_cube([](std::size_t, double x, double dy) { return right(x, dy); });
  EXPECT_TRUE(report.passed) << report.where;
  EXPECT_EQ(report.compared, 15);
}

TEST(GradientCheck, CatchesAFlippedSign) {
  const auto report = check_cube([](std::size_t, double x, double dy) { return -right(x, dy); });
  EXPECT_FALSE(report.passed);
  EXPECT_GT(report.worst, 0.5);
}

TEST(GradientCheck, CatchesAMissingTermInOneElement) {
  const auto report =
      check_cube([](std::size_t i, double x, double dy) { return i == 11 ? 0 : right(x, dy); });
  EXPECT_FALSE(report.passed);
  EXPECT_THAT(report.where, HasSubstr("input 0 element 11"));
}

TEST(GradientCheck, CatchesARelativeErrorJustAboveTheTolerance) {
  const auto report =
      check_cube([](std::size_t, double x, double dy) { return right(x, dy) * (1 + 1e-5); });
  EXPECT_FALSE(report.passed);
}

TEST(GradientCheck, CatchesNaNWhereverItStandsAndReportsIt) {
  for (std::size_t at : {0, 7, 14}) {
    const auto report = check_cube(
        [at](std::size_t i, double x, double dy) { return i == at ? NAN : right(x, dy); });
    EXPECT_FALSE(report.passed);
    EXPECT_TRUE(std::isnan(report.worst)) << report.worst;
    EXPECT_THAT(report.where, HasSubstr(fmt::format("element {}", at)));
  }
}

TEST(GradientCheck, CatchesAGradientThatIgnoresItsCotangent) {
  // A plain sum as objective has the cotangent 1 and could not tell.
  const auto report = check_cube([](std::size_t, double x, double) { return right(x, 1); });
  EXPECT_FALSE(report.passed);
}

TEST(GradientCheck, CatchesAFunctionCutOffTheTape) {
  const auto report =
      check_gradient({"cut", {random_normal({4}, 1)}, [](std::span<const Variable> inputs) {
                        return inputs[0].detach();
                      }});
  EXPECT_FALSE(report.passed);
}

OpReport only_failure(const std::vector<OpReport>& reports) {
  OpReport failure;
  int failures = 0;
  for (const auto& report : reports) {
    if (report.gradient.passed) continue;
    failure = report;
    ++failures;
  }
  EXPECT_EQ(failures, 1);
  return failure;
}

std::vector<GradientCase> identity_case(const Shape& shape) {
  return {
      {"identity", {random_normal(shape, 1)}, [](std::span<const Variable> x) { return x[0]; }}};
}

TEST(GradientCheck, AnOpWithoutCasesFailsByName) {
  const auto failure =
      only_failure(check_gradients({{"fine", [] { return identity_case({2}); }},
                                    {"forgotten", [] { return std::vector<GradientCase>{}; }}}));
  EXPECT_EQ(failure.op, "forgotten");
}

TEST(GradientCheck, AnOpWhoseCasesAreAllEmptyFailsByName) {
  const auto failure = only_failure(check_gradients({{"hollow", [] {
                                                        return identity_case({0, 3});
                                                      }}}));
  EXPECT_EQ(failure.op, "hollow");
}

TEST(GradientCheck, TwoOpsOfOneNameFail) {
  const auto failure = only_failure(check_gradients(
      {{"same", [] { return identity_case({2}); }}, {"same", [] { return identity_case({2}); }}}));
  EXPECT_EQ(failure.op, "same");
  EXPECT_THAT(failure.gradient.where, HasSubstr("two ops"));
}

}  // namespace
}  // namespace cmir
