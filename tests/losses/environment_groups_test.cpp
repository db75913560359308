// Penalties over environments in a step that is recorded and replayed with other labels.
#include "losses/environment_groups.h"

#include "core/graph.h"
#include "losses/coral.h"
#include "losses/hsic.h"
#include "losses/irm.h"
#include "losses/mmd.h"
#include "losses/prediction.h"
#include "losses/rex.h"
#include "losses/soft_hgr.h"
#include "tests/losses/loss_test.h"
#include "tests/message_of.h"

namespace cmir::losses {
namespace {

using namespace testing;

constexpr std::int64_t kSamples = 7;

struct Step {
  Tensor penalty, gradient;
};

/// The penalties, most of which read groups that were made before, and the gradient of their sum.
Step step(const Tensor& z, const Tensor& target, const EnvironmentGroups& groups) {
  const Variable x(z, true);
  const std::vector<Variable> parts = {irm_mse(x, target, groups),
                                       irm_mse(x, target, groups, {.unbiased = true}),
                                       vrex(mse(x, target, Reduction::none), groups),
                                       mmrex(mae(x, target, Reduction::none), groups, 0.1),
                                       mmd(x, groups),
                                       mmd(x, groups, {{0.5}, true}),
                                       coral(x, groups),
                                       hsic(x, Variable(target)),
                                       soft_hgr(x, Variable(target))};
  Step out{Tensor::zeros({static_cast<std::int64_t>(parts.size())}, z.dtype(), z.device()), {}};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    out.penalty.slice(at, at + 1).copy_from(parts[i].value().reshape({1}));
    backward(parts[i]);
  }
  out.gradient = x.gradient();
  return out;
}

/// One environment of three empty, then none, then two: counts that a capture must not freeze.
const std::vector<std::vector<std::int32_t>> kLabels = {
    {0, 0, 2, 2, 0, 2, 0}, {0, 1, 2, 0, 1, 2, 1}, {1, 1, 1, 1, 1, 1, 1}, {0, 1, 1, 1, 1, 1, 2}};

EnvironmentGroups groups_of(const std::vector<std::int32_t>& labels) {
  return EnvironmentGroups::by_labels(Tensor::from(labels, {kSamples}), 3);
}

class RecordedGroups : public ::testing::TestWithParam<DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceType::cuda && cuda::device_count() == 0)
      GTEST_SKIP() << cuda::unavailable_reason();
    z_ = tensor<float>(normals(kSamples, 1), {kSamples, 1}).to(device_);
    target_ = tensor<float>(normals(kSamples, 2), {kSamples, 1}).to(device_);
  }
  const Device device_{GetParam()};
  Tensor z_, target_;
};
INSTANTIATE_TEST_SUITE_P(Devices, RecordedGroups,
                         ::testing::Values(DeviceType::simt, DeviceType::cuda),
                         [](const auto& test) {
                           return Device{test.param}.to_string().substr(0, 4);
                         });

TEST_P(RecordedGroups, AReplayReadsTheLabelsThatCameLast) {
  EnvironmentGroups groups = groups_of(kLabels[0]);
  groups.prepare(device_);
  Step recorded;
  Graph graph(device_);
  graph.capture([&] { recorded = step(z_, target_, groups); });
  for (const auto& labels : kLabels) {
    groups.relabel(Tensor::from(labels, {kSamples}));
    groups.prepare(device_);
    graph.replay();
    const Step anew = step(z_, target_, groups_of(labels));
    EXPECT_EQ(recorded.penalty.to_vector(), anew.penalty.to_vector());
    EXPECT_EQ(recorded.gradient.to_vector(), anew.gradient.to_vector());
  }
}

TEST_P(RecordedGroups, GroupsMadeInACaptureAreAnError) {
  Graph graph(device_);
  EXPECT_NE(
      message_of([&] { graph.capture([&] { (void)step(z_, target_, groups_of(kLabels[0])); }); }),
      "no error");
}

}  // namespace
}  // namespace cmir::losses
