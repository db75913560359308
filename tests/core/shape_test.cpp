#include "core/shape.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "core/error.h"

namespace cmir {
namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

TEST(Shape, CountsElementsRowsAndWidth) {
  const Shape shape{2, 3, 5};
  EXPECT_EQ(shape.rank(), 3);
  EXPECT_EQ(shape.numel(), 30);
  EXPECT_EQ(shape.rows(), 6);
  EXPECT_EQ(shape.width(), 5);
  EXPECT_EQ(shape[0], 2);
  EXPECT_EQ(shape[-1], 5);
  EXPECT_EQ(shape.to_string(), "[2, 3, 5]");
  EXPECT_EQ(shape.with_width(7), (Shape{2, 3, 7}));
  EXPECT_EQ(shape.with_leading(0), (Shape{0, 3, 5}));
}

TEST(Shape, AScalarHasOneElement) {
  EXPECT_EQ(Shape().numel(), 1);
  EXPECT_EQ(Shape().rows(), 1);
  EXPECT_EQ(Shape().width(), 1);
  EXPECT_EQ(Shape().to_string(), "[]");
  EXPECT_THROW(Shape().with_width(1), Error);
  EXPECT_THROW(Shape().with_leading(1), Error);
}

TEST(Shape, ComparesRankAndSizes) {
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
  EXPECT_NE((Shape{2}), (Shape{2, 1}));
  EXPECT_EQ((Shape{0, 3}).numel(), 0);
}

TEST(Shape, RefusesWhatCannotBe) {
  EXPECT_THROW((Shape{-1}), Error);
  EXPECT_THROW((Shape{kMax, 2}), Error);
  EXPECT_THROW((Shape{0, kMax, kMax}), Error);  // the strides would overflow
  EXPECT_EQ((Shape{kMax, 1}).numel(), kMax);
  EXPECT_THROW(Shape(std::vector<std::int64_t>(9, 1)), Error);
  EXPECT_THROW((Shape{2}[1]), Error);
  EXPECT_THROW((Shape{2}[-2]), Error);
}

}  // namespace
}  // namespace cmir
