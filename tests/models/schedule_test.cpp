#include "models/training/schedule.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/error.h"

namespace cmir {
namespace {

TEST(Schedule, WarmsUpLinearlyToOne) {
  for (const char* decay : {"constant", "linear", "cosine"}) {
    const Schedule schedule = Schedule::make(decay, 40, 0.1);
    EXPECT_EQ(schedule.warmup_steps, 4);
    for (int t = 0; t < 4; ++t) EXPECT_DOUBLE_EQ(schedule.factor(t), (t + 1) / 5.0) << decay;
    EXPECT_DOUBLE_EQ(schedule.factor(4), 1) << decay;
  }
}

TEST(Schedule, DecaysAsNamed) {
  const Schedule constant = Schedule::make("constant", 12, 0),
                 linear = Schedule::make("linear", 12, 0), cosine = Schedule::make("cosine", 12, 0);
  for (int t = 0; t < 12; ++t) {
    EXPECT_EQ(constant.factor(t), 1);
    EXPECT_DOUBLE_EQ(linear.factor(t), (12 - t) / 12.0);
    EXPECT_DOUBLE_EQ(cosine.factor(t), (1 + std::cos(3.14159265358979323846 * t / 12)) / 2);
    EXPECT_GT(cosine.factor(t), 0);
  }
  EXPECT_EQ(constant.factor(12), 1);
  EXPECT_EQ(linear.factor(12), 0);
  EXPECT_EQ(cosine.factor(100), 0);
}

TEST(Schedule, WarmUpMayTakeEverythingOrNothing) {
  EXPECT_DOUBLE_EQ(Schedule::make("linear", 10, 1).factor(9), 10.0 / 11);
  EXPECT_EQ(Schedule::make("cosine", 10, 1).factor(10), 0);
  EXPECT_EQ(Schedule::make("linear", 0, 0.5).factor(0), 0);
}

TEST(Schedule, RefusesNonsense) {
  EXPECT_THROW(Schedule::make("exponential", 10, 0), Error);
  EXPECT_THROW(Schedule::make("linear", -1, 0), Error);
  EXPECT_THROW(Schedule::make("linear", 10, 1.5), Error);
  EXPECT_THROW(Schedule::make("linear", 10, std::nan("")), Error);
  EXPECT_THROW(Schedule::make("linear", 10, 0).factor(-1), Error);
}

}  // namespace
}  // namespace cmir
