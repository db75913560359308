// What every command of `cmir` does when it is used as meant, and what it says when it is not.
#include <nlohmann/json.hpp>

#include "models/experiments/study.h"
#include "tests/models/import/format_files.h"
#include "tests/tools/program.h"

namespace cmir::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kModel = "trials/CmIR-seed1/model.safetensors";

class Commands : public ProgramTest {
 protected:
  std::string output(const Arguments& arguments) const {
    const Finished finished = run(arguments);
    EXPECT_EQ(finished.exit_code, 0) << finished.err;
    return finished.out;
  }
};

TEST_F(Commands, Train) {
  const std::string out = output(Arguments{"train", "synthetic", "--out", "r"} + kTinyModel);
  EXPECT_THAT(out, AllOf(HasSubstr("CmIR on synthetic"), HasSubstr("MAE test")));
  for (const char* file : {"r/report.json", "r/table.md", "r/picture.svg",
                           "r/trials/CmIR-seed1/result.json", "r/trials/CmIR-seed1/history.json"}) {
    EXPECT_TRUE(fs::exists(path(file))) << file;
  }
  EXPECT_FALSE(fs::exists(path("r/trials/CmIR-seed1/checkpoint.safetensors")));
  const std::string model = read_text(path("r") / kModel);

  // Again: the finished seed is kept. --restart: trained anew, with the same bits.
  const auto first = fs::last_write_time(path("r") / kModel);
  output(Arguments{"train", "synthetic", "--out", "r"} + kTinyModel);
  EXPECT_EQ(fs::last_write_time(path("r") / kModel), first);
  const auto again = Json::parse(
      output(Arguments{"train", "synthetic", "--out", "r", "--restart", "--json"} + kTinyModel));
  EXPECT_EQ(again.at("rows").at(0).at("model"), "CmIR");
  EXPECT_GT(fs::last_write_time(path("r") / kModel), first);
  EXPECT_EQ(read_text(path("r") / kModel), model);
}

TEST_F(Commands, TrainIsNamedAfterItsConfigurationAndSaysWhatItReplaces) {
  output(Arguments{"train", "synthetic"} + kTinyModel);
  EXPECT_TRUE(fs::exists(path("runs/synthetic") / kModel));
  const test::Finished other =
      run(Arguments{"train", "synthetic", "--set", "optimizer.learning_rate=0.5"} + kTinyModel);
  EXPECT_THAT(other.err, HasSubstr("training anew replaces it"));
}

TEST_F(Commands, StudiesRefuseWhatTheyCannotCompareBeforeTheyTrain) {
  const auto refused = [&](const std::string& study, const test::Arguments& settings,
                           const std::string& why) {
    test::Arguments arguments = test::Arguments{"experiment", study, "synthetic", "--out", "x"};
    expect_error(arguments + kTinyModel + settings, 2, {why});
    EXPECT_FALSE(fs::exists(path("x/trials")));
  };
  refused("forms", {"--set", "loss.environments=0"}, "loss.environments to 1 or more");
  refused("probing", {"--set", "loss.environments=0"}, "loss.environments to 1 or more");
  refused("forms", {"--set", "loss.lambda_invariance=0"}, "lambda_invariance = 0");
  refused("fusion", {"--set", "model.fusion_heads=2"}, "every modality is one vector per sample");
}

TEST_F(Commands, Eval) {
  train("r");
  const auto report = Json::parse(read_text(path("r/report.json")));
  const auto metrics = Json::parse(output({"eval", "r", "--json"})).at(0);
  EXPECT_EQ(metrics.at("metrics").at("MAE"), report.at("rows").at(0).at("MAE test").at("mean"));
  EXPECT_EQ(metrics.at("part"), "test");
  EXPECT_THAT(output({"eval", std::string("r/") + kModel}), HasSubstr("MAE"));
  const auto noisy = Json::parse(
      output({"eval", "r", "--noise", "gaussian", "--rate", "0.9", "--part", "train", "--json"}));
  EXPECT_NE(noisy.at(0).at("loss"),
            Json::parse(output({"eval", "r", "--part", "train", "--json"})).at(0).at("loss"));
}

TEST_F(Commands, Predict) {
  train("r");
  const std::string lines = output({"predict", "r"});
  EXPECT_THAT(lines, StartsWith("s00\t"));
  EXPECT_EQ(std::ranges::count(lines, '\n'), 60);
  EXPECT_EQ(output({"predict", "r", "--out", "lines.tsv"}), "");
  EXPECT_EQ(read_text(path("lines.tsv")), lines);
  const std::string part = output({"predict", "r", "--part", "test"});
  EXPECT_EQ(std::ranges::count(part, '\n'), 12);
  // A label of another kind does not matter: it is not read.
  EXPECT_EQ(
      std::ranges::count(
          output({"predict", "r", "--data", "synthetic:n=10,widths=5/4/3,label=binary"}), '\n'),
      10);
}

TEST_F(Commands, EveryExperiment) {
  for (const StudyInfo& study : studies()) {
    const std::string name(study.name);
    SCOPED_TRACE(name);
    Arguments arguments = Arguments{"experiment", name, "synthetic", "--out", name} + kTinyModel;
    if (name == "noise") arguments = arguments + Arguments{"--values", "0.5"};
    if (name == "sweep")
      arguments = arguments + Arguments{"--key", "loss.environments", "--values", "1", "2"};
    if (name == "fusion") {  // over time
      std::ranges::replace(arguments, kTinyModel[1], kTinyModel[1] + ",kind=sequence");
      arguments = arguments + Arguments{"--set", "model.fusion_heads=2"};
    }
    EXPECT_THAT(output(arguments), HasSubstr("report.json, table.md, picture.svg: " + name));
    EXPECT_FALSE(Json::parse(read_text(path(name) / "report.json")).empty());
    EXPECT_THAT(read_text(path(name) / "table.md"), HasSubstr("|"));
    EXPECT_THAT(read_text(path(name) / "picture.svg"), StartsWith("<svg"));
  }
  EXPECT_EQ(Json::parse(read_text(path("sweep/report.json"))).at("rows").size(), 2U);
}

TEST_F(Commands, MutualInformationOfGaussianPairs) {
  EXPECT_THAT(
      output({"experiment", "mi-gaussian", "--values", "1", "3", "--steps", "5", "--out", "mi"}),
      AllOf(HasSubstr("InfoNCE"), HasSubstr("report.json, table.md, picture.svg: mi")));
  EXPECT_EQ(Json::parse(read_text(path("mi/report.json"))).at("steps"), 5);
  EXPECT_THAT(read_text(path("mi/picture.svg")), StartsWith("<svg"));
  expect_error({"experiment", "mi-gaussian", "synthetic"}, 2, {"takes no configuration"});
  expect_error({"experiment", "mi-gaussian", "--seeds", "1", "2"}, 2, {"takes one seed"});
  expect_error({"experiment", "mi-gaussian", "--values", "-1"}, 2, {"not negative, got -1"});
  expect_error({"experiment", "table"}, 2, {"table needs a configuration"});
  expect_error({"experiment", "table", "synthetic", "--steps", "3"}, 2, {"for mi-gaussian alone"});
}

TEST_F(Commands, Data) {
  EXPECT_EQ(output({"data", "generate", "synthetic:n=20,seed=3", "d.safetensors"}), "");
  EXPECT_EQ(Json::parse(output({"data", "info", "d.safetensors"})).at("samples"), 20);
  EXPECT_THAT(output({"data", "validate", "d.safetensors"}), HasSubstr("no findings"));
  const auto report = Json::parse(output({"data", "validate", "d.safetensors", "--json"}));
  EXPECT_TRUE(report.at("errors").empty());
}

TEST_F(Commands, DataConvert) {
  if (format_files().empty()) GTEST_SKIP() << "the sample files are absent";
  const std::string file = (format_files() / "tiny_mmsa_aligned_50.pkl").string();
  EXPECT_THAT(output({"data", "convert", file, "d.safetensors"}), HasSubstr("samples of train: 6"));
  EXPECT_EQ(Json::parse(output({"data", "info", "d.safetensors"})).at("samples"), 13);
}

TEST_F(Commands, Inspect) {
  EXPECT_THAT(output({"inspect", "--configs"}), HasSubstr("mosi_utt_b\n"));
  EXPECT_THAT(output({"inspect", "--keys"}), HasSubstr("loss.environments"));
  EXPECT_THAT(output({"inspect", "--kernels"}), HasSubstr("layer_norm_forward<f32>"));
  EXPECT_THAT(output({"inspect", "synthetic"}), HasSubstr("predictor.0.weight"));
  train("r");
  const auto shapes = Json::parse(output({"inspect", std::string("r/") + kModel, "--json"}));
  EXPECT_EQ(shapes.at("predictor.0.weight"), (Json{6, 12}));  // [d', 3 d]
}

TEST_F(Commands, InspectAttention) {
  const Arguments crossmodal = {"--set", "model.fusion=crossmodal",
                                "--set", "model.fusion_layers=2",
                                "--set", "model.fusion_heads=2"};
  const std::string data = "synthetic:n=60,seed=1,widths=5/4/3,kind=sequence";
  Arguments tiny = kTinyModel;
  tiny[1] = data;
  output(Arguments{"train", "synthetic", "--out", "c"} + tiny + crossmodal);
  const std::string model = std::string("c/") + kModel;
  EXPECT_THAT(output({"inspect", model, "--attention", "maps"}), HasSubstr("attention.svg"));
  EXPECT_THAT(read_text(path("maps/attention.svg")), HasSubstr(">text from audio, layer 1<"));
  const auto report = Json::parse(read_text(path("maps/attention.json")));
  EXPECT_EQ(report.at("maps").size(), 12U);
  for (const auto& map : report.at("maps")) {
    EXPECT_EQ(map.at("probabilities").size(), map.at("queries"));
    for (const auto& row : map.at("probabilities")) {
      EXPECT_EQ(row.size(), map.at("keys"));
      double total = 0;
      for (const double p : row) total += p;
      EXPECT_NEAR(total, 1, 1e-5);
    }
  }
  const std::string id = report.at("sample");
  const std::string first = output({"predict", "c"});  // in a batch, where a BLAS rounds otherwise
  ASSERT_THAT(first, StartsWith(id + "\t"));
  EXPECT_NEAR(std::stod(first.substr(id.size() + 1)), report["prediction"][0].get<double>(), 1e-5);
  expect_error({"inspect", model, "--attention", "maps", "--sample", id + "x"}, 2,
               {"no sample '" + id + "x'", "did you mean '" + id});
  expect_error({"inspect", model, "--attention", "maps", "--sample", "nope"}, 2,
               {"no sample 'nope'; its first is '" + id});
  expect_error({"inspect", "synthetic", "--attention", "maps"}, 2, {"needs a trained model"});
  expect_error({"inspect", "synthetic", "--sample", id}, 2, {"--sample is for --attention"});
  const std::string folder = std::filesystem::path(model).parent_path().string();
  EXPECT_THAT(output({"inspect", folder, "--attention", "maps"}), HasSubstr("maps of sample"));
  train("r");
  expect_error({"inspect", std::string("r/") + kModel, "--attention", "maps"}, 2,
               {"has attention"});
}

TEST_F(Commands, Gradcheck) {
  EXPECT_THAT(output({"gradcheck", "layer_norm"}),
              AllOf(HasSubstr("layer_norm  one row"), HasSubstr("ok")));
}

TEST_F(Commands, Help) {
  EXPECT_THAT(output({"--help"}), HasSubstr("exit codes: 0 done, 2 wrong usage"));
  EXPECT_THAT(output({"train", "--help"}), HasSubstr("--checkpoint-steps"));
  EXPECT_THAT(output({"--version"}), ContainsRegex("^cmir [0-9.]+, commit .+"));
}

TEST_F(Commands, WrongUsageSaysWhatIsAllowed) {
  expect_error({}, 2, {"subcommand is required"});
  expect_error({"tain"}, 2, {"there is no 'tain'", "train, eval, predict"});
  expect_error({"train"}, 2, {"config is required"});
  expect_error({"train", "synthetic", "--colour"}, 2, {"--colour"});
  expect_error({"train", "synthetic", "--threads", "0"}, 2, {"--threads", "1 to 4096"});
  expect_error({"train", "synthetic", "--device", "gpu"}, 2, {"'gpu' is none of cpu, cuda"});
  expect_error({"train", "synthetic", "--seeds", "-1"}, 2, {"training.seeds", "-1"});
  expect_error({"train", "synthetic", "--set", "loss.environmnts=2"}, 2,
               {"unknown key 'loss.environmnts'", "did you mean 'loss.environments'"});
  expect_error({"train", "synthetic", "--set", "model.dropout=2"}, 2,
               {"'model.dropout' = 2 is not allowed", "0 to 0.999"});
  expect_error({"train", "synthetic", "--set", "training.epochs=many"}, 2, {"an integer"});
  expect_error({"train", "synthetic", "--set", "model.dropout"}, 2, {"section.key=value"});
  expect_error({"experiment", "nosie", "synthetic"}, 2, {"'nosie' is no study", "noise"});
  expect_error({"experiment", "sweep", "synthetic"}, 2, {"needs --key"});
  expect_error({"experiment", "noise", "synthetic", "--values", "0.1", "3"}, 2, {"0 to 1; got 3"});
  expect_error({"data"}, 2, {"subcommand is required"});
  expect_error({"data", "get", "mosei"}, 2, {"knows only 'mosi'"});
  expect_error({"data", "generate", "synthetic:m=3", "x"}, 2, {"no key \"m\""});
  expect_error({"inspect"}, 2, {"needs a configuration or a model file"});
  expect_error({"gradcheck", "layer_nrom"}, 2, {"no op 'layer_nrom'"});
  train("r");
  expect_error({"eval", "r", "--noise", "pink"}, 2, {"noise.test_kind", "gaussian, laplace"});
  expect_error({"eval", "r", "--rate", "0.5"}, 2, {"a kind other than 'none'"});
  expect_error({"eval", "r", "--part", "dev"}, 2, {"no part \"dev\"", "train, valid, test"});
}

TEST_F(Commands, MissingFilesAreNamedWithWhatThereIs) {
  expect_error({"train", "nowhere"}, 4, {"'nowhere'", "shipped: ", "mosi_utt_b"});
  expect_error({"train", "synthetic", "--data", "nowhere"}, 4, {"\"nowhere\"", "CMIR_DATA"});
  expect_error({"eval", "nowhere"}, 4, {"nowhere", "cmir train"});
  expect_error({"predict", "nowhere"}, 4, {"nowhere", "cmir train"});
  expect_error({"experiment", "table", "nowhere"}, 4, {"'nowhere'"});
  expect_error({"data", "info", "nowhere"}, 4, {"\"nowhere\""});
  expect_error({"data", "validate", "nowhere"}, 4, {"\"nowhere\""});
  expect_error({"data", "convert", "nowhere", "x"}, 4, {"nowhere"});
  expect_error({"inspect", "nowhere.safetensors"}, 4, {"nowhere.safetensors"});
}

/// Where nothing can be written, for root too.
TEST_F(Commands, UnwritableOutputIsNamed) {
  std::ofstream(path("file")) << "no directory";
  const Arguments tiny = kTinyModel;
  expect_error(Arguments{"train", "synthetic", "--out", "file/r"} + tiny, 4, {"file/r"});
  expect_error(Arguments{"train", "synthetic", "--out", "/proc/r"} + tiny, 4, {"/proc/r"});
  expect_error(Arguments{"experiment", "table", "synthetic", "--out", "file"} + tiny, 4, {"file"});
  // At once: with as many steps this test would not end.
  expect_error({"experiment", "mi-gaussian", "--steps", "100000000", "--out", "file"}, 4, {"file"});
  expect_error({"data", "generate", "synthetic:n=10", "file/x"}, 4, {"file/x"});
  train("r");
  expect_error({"predict", "r", "--out", "missing/x"}, 4, {"missing/x", "directory exist"});
  const Finished full = wait(start({"predict", "r"}, "/dev/full"));
  EXPECT_EQ(full.exit_code, 4);
  EXPECT_THAT(full.err, AllOf(HasSubstr("standard output"), HasSubstr("No space left")));
}

}  // namespace
}  // namespace cmir::test
