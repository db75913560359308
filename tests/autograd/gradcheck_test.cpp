// Walks the registry of ops: every op must have gradient cases, and every case must pass.
#include "autograd/gradcheck.h"

#include <gtest/gtest.h>

namespace cmir {
namespace {

TEST(GradientCheck, EveryRegisteredOpPasses) {
  ASSERT_FALSE(registered_ops().empty());
  for (const OpInfo& op : registered_ops()) {
    const auto cases = op.gradient_cases();
    EXPECT_FALSE(cases.empty()) << "op '" << op.name << "' has no gradient cases";
    for (const GradientCase& c : cases) {
      const GradientReport report = check_gradient(c);
      EXPECT_TRUE(report.passed) << op.name << ", case '" << c.name << "': relative error " << report.worst
                                 << " > " << c.tolerance << " at " << report.where;
    }
  }
}

}  // namespace
}  // namespace cmir
