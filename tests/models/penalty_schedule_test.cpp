#include "models/training/penalty_schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"

namespace cmir {
namespace {

TEST(PenaltySchedule, ChangesAsNamed) {
  const auto constant = PenaltySchedule::make("constant", 1, 100, 10),
             step = PenaltySchedule::make("step", 1, 100, 10),
             linear = PenaltySchedule::make("linear", 1, 101, 10),
             falling = PenaltySchedule::make("linear", 8, 0, 4);
  for (int t = 0; t < 25; ++t) {
    EXPECT_EQ(constant.weight(t), 100) << t;
    EXPECT_EQ(step.weight(t), t < 10 ? 1 : 100) << t;
    EXPECT_DOUBLE_EQ(linear.weight(t), t < 10 ? 1 + 10 * t : 101) << t;
    EXPECT_EQ(falling.weight(t), t < 4 ? 8 - 2 * t : 0) << t;
  }
}

TEST(PenaltySchedule, WithoutStepsIsConstant) {
  for (const char* name : {"constant", "step", "linear"}) {
    EXPECT_EQ(PenaltySchedule::make(name, 1, 7, 0).weight(0), 7) << name;
  }
  EXPECT_EQ(PenaltySchedule{}.weight(0), 1);
}

TEST(PenaltySchedule, RefusesNonsense) {
  EXPECT_THROW(PenaltySchedule::make("cosine", 0, 1, 10), Error);
  EXPECT_THROW(PenaltySchedule::make("step", -1, 1, 10), Error);
  EXPECT_THROW(PenaltySchedule::make("step", 0, std::nan(""), 10), Error);
  EXPECT_THROW(PenaltySchedule::make("step", 0, std::numeric_limits<double>::infinity(), 10),
               Error);
  EXPECT_THROW(PenaltySchedule::make("step", 0, 1, -1), Error);
  EXPECT_THROW(PenaltySchedule::make("step", 0, 1, 10).weight(-1), Error);
}

}  // namespace
}  // namespace cmir
