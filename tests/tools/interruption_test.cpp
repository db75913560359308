// A training run that is stopped, killed or out of disk space ends, once it has gone on, with the
// same bits as one that was never disturbed.
#include <nlohmann/json.hpp>

#include "core/formats/safetensors.h"
#include "tests/tools/program.h"

namespace cmir::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;

/// Two seeds side by side, in enough steps that a signal comes before the end.
Arguments train_into(const std::string& directory) {
  return Arguments{"train", "synthetic", "--out", directory} + kTinyModel +
         Arguments{"2",     "--checkpoint-steps",   "50", "--set", "training.epochs=40",
                   "--set", "training.batch_size=1"};
}

class Interruption : public ProgramTest {
 protected:
  fs::path trial(const std::string& directory, int seed) const {
    return path(directory) / fmt::format("trials/CmIR-seed{}", seed);
  }
  fs::path checkpoint(const std::string& directory) const {
    return trial(directory, 1) / "checkpoint.safetensors";
  }

  /// Sends the signal once both seeds have a checkpoint of their third epoch; how the program
  /// then ended.
  Finished stop(const std::string& directory, int signal) const {
    const Running running = start(train_into(directory));
    for (const int seed : {1, 2}) {
      const fs::path file = trial(directory, seed) / "checkpoint.safetensors";
      wait_until([&] { return fs::exists(file) && steps_of(file) > 60; });
    }
    kill(running.pid, signal);
    return wait(running);
  }

  void expect_same_models(const std::string& a, const std::string& b) const {
    for (const int seed : {1, 2}) {
      EXPECT_TRUE(read_text(trial(a, seed) / "model.safetensors") ==
                  read_text(trial(b, seed) / "model.safetensors"))
          << "seed " << seed;
    }
  }

  std::int64_t steps_of(const fs::path& file) const {
    return nlohmann::json::parse(SafeTensors::open(file).metadata().at("state")).at("step");
  }
};

TEST_F(Interruption, MutualInformationOfGaussianPairsEndsOnCtrlC) {
  const Running running =
      start({"experiment", "mi-gaussian", "--steps", "100000000", "--out", "mi"});
  wait_until([&] { return fs::exists(path("mi")); });
  kill(running.pid, SIGINT);
  const Finished stopped = wait(running);
  EXPECT_EQ(stopped.exit_code, 130);
  EXPECT_THAT(stopped.err, HasSubstr("nothing was kept"));
}

class Signals : public Interruption, public ::testing::WithParamInterface<int> {};

TEST_P(Signals, LeaveACheckpointFromWhichTheBitsAreTheSame) {
  const int signal = GetParam();
  ASSERT_EQ(run(train_into("whole")).exit_code, 0);
  const Finished stopped = stop("stopped", signal);
  if (signal == SIGKILL) {
    EXPECT_EQ(stopped.exit_code, 128 + SIGKILL);
  } else {
    EXPECT_EQ(stopped.exit_code, 130);
    EXPECT_THAT(stopped.err, HasSubstr("run the same command again to go on"));
  }
  ASSERT_TRUE(fs::exists(checkpoint("stopped")));
  ASSERT_FALSE(fs::exists(path("stopped/report.json")));
  const Finished resumed = run(train_into("stopped"));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_EQ(resumed.err, "");  // in particular, not a word about starting anew
  expect_same_models("whole", "stopped");
}

INSTANTIATE_TEST_SUITE_P(Each, Signals, ::testing::Values(SIGINT, SIGTERM, SIGKILL),
                         [](const auto& parameter) {
                           return std::string("SIG") + sigabbrev_np(parameter.param);
                         });

TEST_F(Interruption, AFullDiskKeepsTheLastCheckpoint) {
  ASSERT_EQ(run(train_into("whole")).exit_code, 0);
  stop("full", SIGINT);
  const fs::path file = checkpoint("full");
  const std::int64_t before = steps_of(file);
  // The history in the checkpoint grows with every epoch, beyond what still fits after a few.
  const rlim_t room = fs::file_size(file) + 4000;
  const Finished full = wait(start(train_into("full"), "stdout", [room] {
    signal(SIGXFSZ, SIG_IGN);  // then a write past the limit fails, as on a full disk
    const rlimit limit{room, room};
    setrlimit(RLIMIT_FSIZE, &limit);
  }));
  EXPECT_EQ(full.exit_code, 4);
  EXPECT_THAT(full.err, AllOf(HasSubstr("checkpoint.safetensors"), HasSubstr("cannot write"),
                              HasSubstr("run the same command again")));
  EXPECT_GT(steps_of(file), before) << "no checkpoint was written before the disk was full";
  for (const int seed : {1, 2}) {
    for (const auto& entry : fs::directory_iterator(trial("full", seed)))
      EXPECT_THAT(entry.path().string(), ::testing::Not(HasSubstr(".tmp-")));
  }
  const Finished resumed = run(train_into("full"));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  expect_same_models("whole", "full");
}

TEST_F(Interruption, AnotherConfigurationStartsAnewAndSaysSo) {
  stop("r", SIGINT);
  const Finished other = run(Arguments{"train", "synthetic", "--out", "r"} + kTinyModel);
  EXPECT_EQ(other.exit_code, 0);
  EXPECT_THAT(other.err, AllOf(HasSubstr("r/trials/CmIR-seed1/checkpoint.safetensors"),
                               HasSubstr("another configuration"), HasSubstr("starts anew")));
  train("fresh");
  EXPECT_TRUE(read_text(trial("r", 1) / "model.safetensors") ==
              read_text(trial("fresh", 1) / "model.safetensors"));
}

TEST_F(Interruption, ADamagedCheckpointIsNamedAndKept) {
  stop("r", SIGINT);
  fs::resize_file(checkpoint("r"), 1000);
  expect_error(train_into("r"), 3, {"checkpoint.safetensors", "cut off", "delete the file"});
  EXPECT_EQ(fs::file_size(checkpoint("r")), 1000U);
  EXPECT_EQ(run(train_into("r") + Arguments{"--restart"}).exit_code, 0);
}

}  // namespace
}  // namespace cmir::test
