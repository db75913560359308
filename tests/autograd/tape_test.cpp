#include "autograd/tape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>

#include <thread>

#include "autograd/arithmetic.h"
#include "core/allocator.h"
#include "tests/message_of.h"

namespace cmir {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Variable leaf(std::initializer_list<double> values) {
  return Variable(Tensor::from(values, {static_cast<std::int64_t>(values.size())}), true);
}
Tensor vector(std::initializer_list<double> values) {
  return Tensor::from(values, {static_cast<std::int64_t>(values.size())});
}

/// y = x^2 elementwise, made by hand: saves x as an op does, without entering the registry.
class SquareNode : public Node {
 public:
  SquareNode(const Tensor& x, const Tensor& y, std::shared_ptr<Node> input)
      : Node("square", y, {std::move(input)}) {
    context_.save(x);
  }
  Gradients backward(const Tensor& dy) override {
    require(!context_.released(), "square", "freed");
    const Tensor& x = context_.saved(0);
    Tensor dx = Tensor::empty(x.shape(), x.dtype());
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      dx.mutable_data<double>()[i] = 2 * x.data<double>()[i] * dy.data<double>()[i];
    }
    return {dx};
  }
  void release() override { context_.release(); }

 private:
  OpContext context_;
};
Variable square(const Variable& x) {
  Tensor y = x.value().clone();
  for (double& value : y.mutable_span<double>()) value *= value;
  return Variable(y, std::make_shared<SquareNode>(x.value(), y, x.node()));
}

/// Passes on whatever gradient the test gives.
class SendingNode : public Node {
 public:
  SendingNode(const Tensor& y, std::vector<std::shared_ptr<Node>> inputs, Gradients gradients)
      : Node("sender", y, std::move(inputs)), gradients_(std::move(gradients)) {}
  Gradients backward(const Tensor&) override { return gradients_; }

 private:
  Gradients gradients_;
};

TEST(Tape, DifferentiatesAChain) {
  const Variable x = leaf({1, -2, 3});
  backward(ops::scale(square(x), 0.5), {.seed = vector({1, 1, 10})});
  EXPECT_THAT(x.gradient().to_vector(), ElementsAre(1, -2, 30));
}

TEST(Tape, SumsOverAllUsesOfANode) {
  const Variable x = leaf({3});
  const Variable y = square(x);
  backward(ops::weighted_sum({y, y, x}, {1, 2, 5}));
  EXPECT_THAT(x.gradient().to_vector(), ElementsAre(3 * 6 + 5));
}

TEST(Tape, DiamondsAreWalkedOncePerNode) {
  // 60 diamonds have 2^60 paths.
  const Variable x = leaf({1});
  Variable y = x;
  for (int i = 0; i < 60; ++i) y = ops::weighted_sum({y, y}, {0.5, 0.5});
  backward(y);
  EXPECT_THAT(x.gradient().to_vector(), ElementsAre(1));
}

TEST(Tape, RepeatedBackwardAccumulatesUntilCleared) {
  Variable x = leaf({1, 2});
  for (int i = 1; i <= 3; ++i) {
    backward(ops::scale(x, 2), {.seed = vector({1, 10})});
    EXPECT_THAT(x.gradient().to_vector(), ElementsAre(2 * i, 20 * i));
  }
  x.clear_gradient();
  EXPECT_FALSE(x.gradient().defined());
  backward(x, {.seed = vector({5, 6})});
  EXPECT_THAT(x.gradient().to_vector(), ElementsAre(5, 6));
}

TEST(Tape, AGradientThatTheUserHoldsDoesNotChange) {
  const Variable x = leaf({1});
  const Tensor seed = vector({1});
  backward(x, {.seed = seed});
  const Tensor first = x.gradient();
  backward(x, {.seed = seed});
  EXPECT_EQ(first.item(), 1);
  EXPECT_EQ(seed.item(), 1);
  EXPECT_EQ(x.gradient().item(), 2);
}

TEST(Tape, LeavesThatReceiveTheSameTensorDoNotShareIt) {
  const Variable a = leaf({1}), b = leaf({2});
  backward(ops::weighted_sum({a, b}, {1, 1}));
  a.gradient().mutable_data<double>()[0] = 100;
  EXPECT_EQ(b.gradient().item(), 1);
}

TEST(Tape, NoGradScopeRecordsNothing) {
  const Variable x = leaf({1});
  {
    const NoGradScope outer;
    {
      const NoGradScope inner;
      EXPECT_FALSE(ops::scale(x, 2).requires_gradient());
    }
    EXPECT_FALSE(gradients_enabled());
    EXPECT_FALSE(ops::scale(x, 2).requires_gradient());
    std::thread([&] { EXPECT_TRUE(ops::scale(x, 2).requires_gradient()); }).join();
  }
  EXPECT_TRUE(ops::scale(x, 2).requires_gradient());
}

TEST(Tape, DetachedAndConstantInputsReceiveNothing) {
  const Variable x = leaf({3});
  const Variable constant(vector({4}));
  EXPECT_FALSE(ops::scale(constant, 2).requires_gradient());
  backward(ops::weighted_sum({x, x.detach(), constant}, {1, 10, 100}));
  EXPECT_EQ(x.gradient().item(), 1);
  EXPECT_FALSE(constant.gradient().defined());
}

TEST(Tape, AHookSeesTheWholeGradientOfOneBackward) {
  Variable x = leaf({1});
  std::vector<double> seen;
  x.add_hook([&](const Tensor& gradient) {
    seen.push_back(gradient.item());
    return Tensor();
  });
  for (int i = 0; i < 2; ++i) backward(ops::weighted_sum({x, x}, {2, 3}));
  EXPECT_THAT(seen, ElementsAre(5, 5));  // not 10 the second time
  EXPECT_EQ(x.gradient().item(), 10);
}

TEST(Tape, AHookReplacesTheGradientBeforeItIsPassedOn) {
  Variable x = leaf({1});
  Variable y = ops::scale(x, 2);
  y.add_hook(
      [](const Tensor& gradient) { return Tensor::full(gradient.shape(), 7, gradient.dtype()); });
  x.add_hook([](const Tensor& gradient) {
    return Tensor::full(gradient.shape(), gradient.item() + 1, gradient.dtype());
  });
  for (int i = 1; i <= 2; ++i) {
    backward(y, {.retain_graph = true});
    EXPECT_EQ(x.gradient().item(), 15 * i);  // the earlier sum does not pass through the hook again
  }
}

TEST(Tape, AHookOfTheWrongShapeIsNamed) {
  Variable x = leaf({1});
  x.add_hook([](const Tensor&) { return vector({1, 2}); });
  EXPECT_THAT(message_of([&] { backward(x); }), HasSubstr("hook: returned f64[2]"));
  EXPECT_THAT(message_of([] { Variable(vector({1})).add_hook({}); }),
              HasSubstr("needs no gradient"));
}

TEST(Tape, TheGraphIsFreedUnlessRetained) {
  const Variable x = leaf({3});
  const Variable y = ops::scale(square(x), 1);
  backward(y, {.retain_graph = true});
  backward(y);
  EXPECT_EQ(x.gradient().item(), 12);
  EXPECT_THAT(message_of([&] { backward(y); }),
              AllOf(HasSubstr("weighted_sum"), HasSubstr("already used"),
                    HasSubstr("retain_graph = true")));
  EXPECT_EQ(x.gradient().item(), 12);
}

TEST(Tape, BackwardFreesWhatForwardSaved) {
  cpu_allocator().reset_peak();
  const Variable x(Tensor::zeros({1000}, DType::f64), true);
  Variable y = square(ops::scale(x, 2));
  const auto before = cpu_allocator().stats().live;
  backward(y, {.seed = Tensor::zeros({1000}, DType::f64)});
  x.node()->gradient = Tensor();
  EXPECT_LT(cpu_allocator().stats().live, before);
}

TEST(Tape, ASavedTensorThatWasChangedInPlaceIsNoticed) {
  Variable x = leaf({3});
  const Variable y = square(x);
  x.mutable_value().fill(4);
  EXPECT_THAT(message_of([&] { backward(y); }),
              AllOf(HasSubstr("changed in place"), HasSubstr("f64[1]"), HasSubstr("clone")));
}

TEST(Tape, AFailedBackwardLeavesNothingForTheNext) {
  const Variable x = leaf({3}), z = leaf({1});
  const Variable y =
      ops::scale(x, 1);  // made first, so its part of the sum has arrived when `wrong` fails
  const Variable wrong(
      vector({1}),
      std::make_shared<SendingNode>(vector({1}), std::vector{z.node()}, Gradients{vector({1, 2})}));
  EXPECT_NE(message_of([&] { backward(ops::weighted_sum({y, wrong}, {1, 1})); }), "no error");
  backward(y);
  EXPECT_EQ(x.gradient().item(), 1);
}

TEST(Tape, AGradientOfTheWrongShapeNamesBothOps) {
  const Variable x = leaf({1});
  const auto send = [&](Gradients gradients) {
    const Tensor y = vector({1});
    return message_of([&] {
      backward(Variable(
          y, std::make_shared<SendingNode>(y, std::vector{x.node()}, std::move(gradients))));
    });
  };
  EXPECT_THAT(send({vector({1, 2})}), AllOf(HasSubstr("sender: sends a gradient f64[2]"),
                                            HasSubstr("leaf"), HasSubstr("f64[1]")));
  EXPECT_THAT(send({Tensor::zeros({1}, DType::f32)}), HasSubstr("f32[1]"));
  EXPECT_THAT(send({}), HasSubstr("sender: its backward returned 0 gradients for 1 inputs"));
}

TEST(Tape, ARootOfSeveralElementsNeedsASeedOfItsShape) {
  const Variable x = leaf({1, 2});
  EXPECT_THAT(message_of([&] { backward(x); }),
              AllOf(HasSubstr("[2]"), HasSubstr("BackwardOptions::seed")));
  EXPECT_THAT(message_of([&] {
                backward(x, {.seed = vector({1, 2, 3})});
              }),
              AllOf(HasSubstr("seed"), HasSubstr("[3]")));
  EXPECT_THAT(message_of([&] { backward(x.detach()); }), HasSubstr("depends on nothing"));
}

TEST(Tape, OnlyFloatingValuesHaveGradients) {
  EXPECT_THAT(message_of([] { Variable(Tensor::zeros({1}, DType::i64), true); }),
              HasSubstr("i64[1]"));
}

TEST(Tape, AChainOfAHundredThousandNodesNeedsNoStack) {
  // In a thread with a stack of 256 KiB any recursion over the nodes,
  // 100,000 deep, overflows it.
  const auto body = [](void*) -> void* {
    const Variable x = leaf({1});
    {
      Variable y = x;
      for (int i = 0; i < 100000; ++i) y = ops::scale(y, 1);
      backward(y, {.retain_graph = true});
      EXPECT_EQ(x.gradient().item(), 1);
    }  // and the chain is destroyed from its end
    Variable first = ops::scale(x, 1), y = first;
    for (int i = 0; i < 100000; ++i) y = ops::scale(y, 1);
    return nullptr;
  };
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  ASSERT_EQ(pthread_attr_setstacksize(&attributes, 256 * 1024), 0);
  pthread_t thread;
  ASSERT_EQ(pthread_create(&thread, &attributes, body, nullptr), 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

}  // namespace
}  // namespace cmir
