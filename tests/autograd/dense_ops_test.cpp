// What the dense ops reject, return and save; their gradients are checked by gradcheck_test.cpp.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "autograd/dropout.h"
#include "autograd/elementwise.h"
#include "autograd/embedding.h"
#include "autograd/linear.h"
#include "autograd/reduce.h"
#include "autograd/rows.h"

namespace cmir {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Variable zeros(const Shape& shape, DType dtype = DType::f32) {
  return Variable(Tensor::zeros(shape, dtype));
}
Variable leaf(std::initializer_list<double> values, const Shape& shape) {
  return Variable(Tensor::from<double>(values, shape), true);
}

template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    return error.what();
  }
  return "no error";
}

TEST(Linear, RejectsWhatDoesNotFit) {
  EXPECT_THAT(
      error_of([] {
        ops::linear(zeros({2, 3}), zeros({4, 5}));
      }),
      AllOf(HasSubstr("linear"), HasSubstr("[2, 3]"), HasSubstr("[4, 5]"), HasSubstr("[out, in]")));
  EXPECT_THAT(error_of([] { ops::linear(zeros({}), zeros({4, 1})); }), HasSubstr("[..., in]"));
  EXPECT_THAT(error_of([] {
                ops::linear(zeros({2, 3}), zeros({4, 3}, DType::f64));
              }),
              HasSubstr("one dtype"));
  EXPECT_THAT(error_of([] {
                ops::linear(zeros({2, 3}), zeros({4, 3}), zeros({3}));
              }),
              HasSubstr("bias"));
  EXPECT_THAT(error_of([] {
                ops::linear(zeros({2, 3}, DType::i32), zeros({4, 3}, DType::i32));
              }),
              HasSubstr("needs f32 or f64"));
}

TEST(Linear, KeepsLeadingDimensions) {
  EXPECT_EQ(ops::linear(zeros({2, 5, 3}), zeros({4, 3})).shape(), (Shape{2, 5, 4}));
  EXPECT_EQ(ops::linear(zeros({3}), zeros({4, 3})).shape(), (Shape{4}));
}

TEST(Linear, DoesNotKeepAnInputThatNoGradientNeeds) {
  const Variable weight = leaf({1, 2}, {1, 2});
  Tensor x = Tensor::from<double>({3, 4}, {1, 2});
  const Variable frozen_weight(Tensor::from<double>({1, 2}, {1, 2})),
      x_leaf(Tensor::from<double>({3, 4}, {1, 2}), true);
  const Variable y = ops::linear(x_leaf, frozen_weight);
  Tensor(x_leaf.value()).fill(0);  // backward needs the weight only, so that x may be overwritten
  backward(y);
  EXPECT_EQ(x_leaf.gradient().to_vector(), (std::vector<double>{1, 2}));
  const Variable z = ops::linear(Variable(x), weight);
  x.fill(0);
  EXPECT_THAT(error_of([&] { backward(z); }), HasSubstr("changed in place"));
}

TEST(Elementwise, RejectsAShapeThatIsNoSuffix) {
  EXPECT_THAT(error_of([] {
                ops::add(zeros({2, 3}), zeros({2}));
              }),
              AllOf(HasSubstr("add"), HasSubstr("[2, 3]"), HasSubstr("[2]"), HasSubstr("suffix")));
  EXPECT_THAT(error_of([] { ops::multiply(zeros({3}), zeros({2, 3})); }), HasSubstr("multiply"));
  EXPECT_THAT(error_of([] { ops::subtract(zeros({3}), zeros({3}, DType::f64)); }),
              HasSubstr("one dtype"));
  EXPECT_THAT(error_of([] { ops::gelu(zeros({3}, DType::i64)); }),
              HasSubstr("gelu: needs f32 or f64"));
}

TEST(Reduce, RejectsTheMeanOfNothing) {
  EXPECT_THAT(error_of([] { ops::mean(zeros({0, 3})); }), HasSubstr("[0, 3]"));
  EXPECT_THAT(error_of([] {
                ops::mean(zeros({0, 3}), ops::Over::leading);
              }),
              HasSubstr("undefined"));
  EXPECT_THAT(error_of([] { ops::mean(zeros({3, 0}), ops::Over::last); }), HasSubstr("undefined"));
  EXPECT_THAT(error_of([] { ops::sum(zeros({}), ops::Over::last); }),
              HasSubstr("no last dimension"));
}

TEST(Reduce, Shapes) {
  const Variable x = leaf({1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {2, 3, 2});
  EXPECT_EQ(ops::sum(x).value().item(), 78);
  EXPECT_EQ(ops::mean(x, ops::Over::leading).value().to_vector(), (std::vector<double>{6, 7}));
  const Tensor last = ops::sum(x, ops::Over::last).value();
  EXPECT_EQ(last.shape(), (Shape{2, 3}));
  EXPECT_EQ(last.to_vector(), (std::vector<double>{3, 7, 11, 15, 19, 23}));
}

TEST(Rows, RejectsBadRangesAndParts) {
  EXPECT_THAT(error_of([] { ops::concat({}); }), HasSubstr("at least one part"));
  EXPECT_THAT(error_of([] {
                ops::concat({zeros({2, 3}), zeros({3, 3})});
              }),
              AllOf(HasSubstr("part 1"), HasSubstr("[3, 3]"), HasSubstr("[2, 3]")));
  EXPECT_THAT(error_of([] { ops::concat({zeros({2, 3}), zeros({6})}); }), HasSubstr("part 1"));
  EXPECT_THAT(error_of([] {
                ops::concat({zeros({2}), zeros({2}, DType::f64)});
              }),
              HasSubstr("dtypes"));
  EXPECT_THAT(error_of([] { ops::concat({zeros({})}); }), HasSubstr("part 0"));
  EXPECT_THAT(error_of([] { ops::slice_rows(zeros({2, 3}), 1, 3); }), HasSubstr("rows [1, 3)"));
  EXPECT_THAT(error_of([] { ops::slice_rows(zeros({2, 3}), -1, 1); }), HasSubstr("not within"));
  EXPECT_THAT(error_of([] {
                ops::slice_columns(zeros({2, 3}), 2, 1);
              }),
              HasSubstr("columns [2, 1)"));
  EXPECT_THAT(error_of([] {
                ops::split_columns(zeros({2, 3}), {1, 1});
              }),
              HasSubstr("add up to 2"));
}

TEST(Embedding, NamesTheIndexOutOfRange) {
  const Variable table = zeros({5, 2});
  EXPECT_THAT(error_of([&] {
                ops::embedding(table, Tensor::from<std::int32_t>({0, 5}, {2}));
              }),
              AllOf(HasSubstr("index 5"), HasSubstr("position 1"), HasSubstr("0 .. 4")));
  EXPECT_THAT(error_of([&] { ops::embedding(table, Tensor::from<std::int32_t>({-1}, {1})); }),
              HasSubstr("index -1"));
  EXPECT_THAT(error_of([&] { ops::embedding(table, Tensor::from<std::int64_t>({1}, {1})); }),
              HasSubstr("i32"));
  EXPECT_THAT(error_of([&] { ops::embedding(zeros({}), Tensor::from<std::int32_t>({0}, {1})); }),
              HasSubstr("table"));
}

TEST(Dropout, ValidatesTheProbability) {
  for (const double p : {-0.1, 1.0, std::nan("")}) {
    EXPECT_THAT(error_of([&] { ops::dropout(zeros({3}), p, {}); }), HasSubstr("[0, 1)"));
    EXPECT_THAT(error_of([&] {
                  ops::linear(zeros({2, 3}), zeros({4, 3}), {}, Activation::relu, {p, {}});
                }),
                AllOf(HasSubstr("linear"), HasSubstr("[0, 1)")));
  }
}

TEST(Dropout, BackwardUsesTheMaskOfForward) {
  const Variable x(Tensor::full({1000}, 1.0, DType::f64), true);
  const Variable y = ops::dropout(x, 0.4, {.seed = 1, .step = 2, .site = 3});
  backward(y, {.seed = Tensor::full({1000}, 1.0, DType::f64)});
  EXPECT_EQ(x.gradient().to_vector(), y.value().to_vector());
}

TEST(Registry, HoldsTheDenseOps) {
  std::vector<std::string> names;
  for (const OpInfo& op : registered_ops()) names.emplace_back(op.name);
  for (const char* name :
       {"linear", "add", "subtract", "multiply", "relu", "gelu", "tanh", "sigmoid", "exp", "reduce",
        "concat", "slice_rows", "slice_columns", "embedding", "dropout"}) {
    EXPECT_THAT(names, ::testing::Contains(name));
  }
}

}  // namespace
}  // namespace cmir
