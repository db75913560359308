// cmir train --trace: the file, the tables, and how they survive an interruption.
#include <nlohmann/json.hpp>

#include "tests/tools/program.h"

namespace cmir::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class TraceCommand : public ProgramTest {
 protected:
  Arguments train_into(const std::string& directory, const Arguments& more = {}) const {
    return Arguments{"train", "synthetic", "--out", directory} + kTinyModel + more;
  }
  nlohmann::json trace(const std::string& file) const {
    return nlohmann::json::parse(read_text(path(file)));
  }
  std::string model(const std::string& directory) const {
    return read_text(path(directory) / "trials/CmIR-seed1/model.safetensors");
  }
};

TEST_F(TraceCommand, WritesAFileAndTablesAndChangesNoBit) {
  train("plain");
  const Finished traced =
      run(train_into("traced", {"--trace", "traced/t.json", "--trace-steps", "4"}));
  ASSERT_EQ(traced.exit_code, 0) << traced.err;
  EXPECT_THAT(traced.out,
              AllOf(HasSubstr("4 steps traced"), HasSubstr("optimizer"), HasSubstr("gemm<f32>")));
  EXPECT_EQ(trace("traced/t.json").at("otherData").at("steps"), 4);
  EXPECT_TRUE(model("plain") == model("traced"));
  for (const auto& entry : fs::directory_iterator(path("traced")))
    EXPECT_THAT(entry.path().string(), Not(HasSubstr(".tmp-")));
}

TEST_F(TraceCommand, NotesOneOfTheSeedsThatTrainSideBySide) {
  const Finished traced =
      run(train_into("r", {"--seeds", "2", "3", "--trace", "t.json", "--trace-steps", "60", "--set",
                           "training.epochs=20"}));
  ASSERT_EQ(traced.exit_code, 0) << traced.err;
  std::vector<std::pair<double, double>> gathers;  // begin, end
  const auto file = trace("t.json");
  for (const auto& event : file.at("traceEvents")) {
    if (event.value("name", "") != "gather") continue;
    const double begin = event.at("ts");
    gathers.emplace_back(begin, begin + event.at("dur").get<double>());
  }
  std::ranges::sort(gathers);
  ASSERT_GT(gathers.size(), 1U);
  for (std::size_t i = 1; i < gathers.size(); ++i)
    EXPECT_GE(gathers[i].first, gathers[i - 1].second - 1e-3) << "two threads in one buffer";
}

TEST_F(TraceCommand, LeavesStandardOutputToJson) {
  const Finished traced = run(train_into("r", {"--trace", "t.json", "--json"}));
  ASSERT_EQ(traced.exit_code, 0) << traced.err;
  EXPECT_TRUE(nlohmann::json::accept(traced.out)) << traced.out;
  EXPECT_GT(trace("t.json").at("otherData").at("steps"), 1);
}

TEST_F(TraceCommand, KeepsTheFileWhereThereIsNothingToTrain) {
  train("r");
  std::ofstream(path("t.json")) << "as it was";
  const Finished traced = run(train_into("r", {"--trace", "t.json"}));
  EXPECT_EQ(traced.exit_code, 0) << traced.err;
  EXPECT_THAT(traced.out, HasSubstr("no step was traced"));
  EXPECT_EQ(read_text(path("t.json")), "as it was");
}

TEST_F(TraceCommand, WritesWhatThereIsOnCtrlC) {
  Arguments endless = train_into("r", {"--trace", "t.json", "--trace-steps", "100000000"});
  endless = endless + Arguments{"--checkpoint-steps", "1", "--set", "training.epochs=100000"};
  const Running running = start(endless);
  wait_until([&] { return fs::exists(path("r/trials/CmIR-seed1/checkpoint.safetensors")); });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  kill(running.pid, SIGINT);
  const Finished stopped = wait(running);
  EXPECT_EQ(stopped.exit_code, 130);
  EXPECT_THAT(stopped.out, HasSubstr("steps traced"));
  EXPECT_GT(trace("t.json").at("otherData").at("steps"), 0);
}

TEST_F(TraceCommand, FindsAFileThatCannotBeWrittenBeforeItTrains) {
  fs::create_directory(path("folder"));
  expect_error(train_into("r", {"--trace", "none/t.json"}), 4, {"none/t.json", "cannot create"});
  expect_error(train_into("r", {"--trace", "folder"}), 4, {"folder", "is a directory"});
  EXPECT_FALSE(fs::exists(path("r/trials")));
  expect_error(train_into("r", {"--trace-steps", "3"}), 2, {"--trace"});
}

}  // namespace
}  // namespace cmir::test
