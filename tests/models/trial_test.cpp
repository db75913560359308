#include "models/experiments/trial.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "models/training/interrupt.h"
#include "tests/models/data_test.h"
#include "tests/models/small_run.h"

namespace cmir {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

class TrialTest : public ::testing::Test {
 protected:
  /// What run_trials() makes of one trial and what it says on stderr.
  struct Outcome {
    TrialResult result;
    std::string said;
  };

  Outcome run(const Config& config, const fs::path& directory = {}) {
    const Trial trial{
        .name = "CmIR", .config = config, .seed = 1, .conditions = {{.name = "test"}}};
    const InterruptGuard no_longer_interrupted;
    ::testing::internal::CaptureStderr();
    try {
      const auto results =
          run_trials({trial}, dataset_, {.directory = directory, .show_progress = false});
      return {results.at(0), ::testing::internal::GetCapturedStderr()};
    } catch (...) {
      ::testing::internal::GetCapturedStderr();
      throw;
    }
  }

  /// Leaves the checkpoint of a run of `config` that was stopped after its second step.
  void interrupt(const Config& config) {
    const InterruptGuard guard;
    const PreparedData data = prepare_data(config, dataset_);
    TrainOptions options{.directory = checkpoint().parent_path()};
    options.on_step = [](const StepReport& report) {
      if (report.state.step == 2) raise(SIGINT);
    };
    ASSERT_TRUE(train(config, data, 1, options).interrupted);
  }

  fs::path checkpoint() const { return folder_ / "trials/CmIR-seed1/checkpoint.safetensors"; }

  const test::ScratchFolder folder_;
  const Config config_ = small_config();
  Dataset dataset_ = small_dataset();
};

TEST_F(TrialTest, GoesOnFromACheckpointOfTheSameRun) {
  for (const std::string device : {"cpu", "simt"}) {
    SCOPED_TRACE(device);
    Config config = config_;
    config.training.device = device;
    fs::remove_all(folder_ / "trials");
    interrupt(config);
    const Outcome resumed = run(config, folder_.path());
    EXPECT_EQ(resumed.said, "");
    EXPECT_EQ(resumed.result.metrics, run(config).result.metrics);
    EXPECT_FALSE(fs::exists(checkpoint()));
  }
}

TEST_F(TrialTest, StartsAnewWhereTheCheckpointIsOfAnotherConfigurationAndSaysSo) {
  Config other = config_;
  other.optimizer.learning_rate = 0.02;
  interrupt(other);
  const Outcome fresh = run(config_, folder_.path());
  EXPECT_THAT(fresh.said, AllOf(HasSubstr(checkpoint().string()), HasSubstr("starts anew")));
  EXPECT_EQ(fresh.result.metrics, run(config_).result.metrics);
}

TEST_F(TrialTest, PassesEveryOtherErrorOn) {
  interrupt(config_);
  dataset_.name = "another";
  EXPECT_THAT(test::error_of([&] { run(config_, folder_.path()); }),
              HasSubstr("was trained on the data set 'synthetic', this run uses 'another'"));
  EXPECT_TRUE(fs::exists(checkpoint()));
  fs::resize_file(checkpoint(), fs::file_size(checkpoint()) - 1);
  EXPECT_THAT(test::error_of([&] { run(config_, folder_.path()); }),
              AllOf(HasSubstr(checkpoint().string()), HasSubstr("delete the file")));
  EXPECT_TRUE(fs::exists(checkpoint()));
}

/// What an interrupted table leaves behind: finished trials are read, not run again.
TEST_F(TrialTest, AFinishedTrialIsNotRunAgain) {
  const Outcome first = run(config_, folder_.path());
  const Outcome second = run(config_, folder_.path());
  EXPECT_EQ(first.result.metrics, second.result.metrics);
  EXPECT_EQ(first.result.seconds, second.result.seconds);
}

}  // namespace
}  // namespace cmir
