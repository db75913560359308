// Data that does not fit, and files that are damaged or something else: each ends with the exit
// code of its kind and a message that says what to do.
#include "core/error.h"
#include "models/data/container.h"
#include "models/data/synthetic.h"
#include "tests/tools/program.h"

namespace cmir::test {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModel = "r/trials/CmIR-seed1/model.safetensors";

class BadData : public ProgramTest {
 protected:
  /// The data set of kTinyModel after `change`, written where kTinyModel's run finds it by --set.
  template <class Change>
  void write(const std::string& name, Change&& change) const {
    Dataset dataset = make_synthetic(parse_synthetic("synthetic:n=60,seed=1,widths=5/4/3"));
    change(dataset);
    save_container(dataset, path(name));
  }
};

/// Trains on a file instead of the generated data: kTinyModel without its --data.
Arguments train_on(const std::string& file) {
  return Arguments{"train", "synthetic", "--out", "x", "--data", file} +
         Arguments(kTinyModel.begin() + 2, kTinyModel.end());
}

TEST_F(BadData, AModalityOfTheModelIsMissingOrOfAnotherKind) {
  train("r");
  expect_error({"predict", "r", "--data", "synthetic:n=10,names=a/b/c,widths=5/4/3"}, 2,
               {"has no feature \"text\"; it has a, b, c"});
  expect_error({"eval", "r", "--data", "synthetic:n=10,names=a/b/c,widths=5/4/3"}, 2,
               {"has no feature \"text\"; it has a, b, c"});
  expect_error({"predict", "r", "--data", "synthetic:n=10,widths=5/4/7"}, 3,
               {"feature video of width 3", "has width 7"});
  for (const char* command : {"predict", "eval"}) {
    expect_error({command, "r", "--data", "synthetic:n=60,widths=5/4/3,kind=sequence"}, 3,
                 {"'text' is sequence of width 5, the model's is vector of width 5",
                  "features that the model was trained on"});
  }
}

TEST_F(BadData, AConfigurationOfAnotherDataSet) {
  expect_error({"train", "mosi_utt_b", "--data", "synthetic:n=60", "--out", "x"}, 2,
               {"has no feature \"text_hffn\"; it has audio, text, video"});
  const Arguments train = Arguments{"train", "synthetic", "--out", "x"} + kTinyModel;
  expect_error(train + Arguments{"--set", "data.label=acc7"}, 2,
               {"has no label \"acc7\"; it has label"});
  expect_error(train + Arguments{"--set", "data.split=folds"}, 2,
               {"has no split or fold \"folds\"; it has split"});
  expect_error(train + Arguments{"--set", "data.task=binary", "--set", "loss.prediction=bce"}, 2,
               {"label 'label' of 'synthetic' is regression", "choose another label or task"});
}

TEST_F(BadData, LabelsOutsideTheirRange) {
  write("d.safetensors", [](Dataset& d) {
    Tensor values = d.labels.at("label").values.clone();
    values.mutable_data<float>()[7] = 99;
    d.labels.at("label").values = values;
  });
  expect_error(train_on("d.safetensors"), 3, {"label: 1 values outside -3..3", "99", "s07"});
  expect_error({"data", "validate", "d.safetensors"}, 3, {"outside -3..3"});
}

TEST_F(BadData, EmptyParts) {
  const auto all = [](Part part) {
    return [part](Dataset& d) {
      Tensor parts = d.splits.at("split").clone();
      parts.fill(part);
      d.splits.at("split") = parts;
    };
  };
  write("train.safetensors", all(kTrain));
  write("test.safetensors", all(kTest));
  expect_error(train_on("train.safetensors"), 3, {"leaves its part \"test\" empty"});
  expect_error(train_on("test.safetensors"), 3, {"leaves its part \"train\" empty"});
  write("no_valid.safetensors", [](Dataset& d) {
    Tensor parts = d.splits.at("split").clone();
    for (auto& part : parts.mutable_span<std::int32_t>()) part = part == kValid ? kTrain : part;
    d.splits.at("split") = parts;
  });
  expect_error(train_on("no_valid.safetensors"), 2,
               {"needs a validation part", "data.validation_fraction"});
  const Arguments last{"--set", "training.checkpoint=last"};
  ASSERT_EQ(run(train_on("no_valid.safetensors") + last).exit_code, 0);
  expect_error({"eval", "x", "--part", "valid"}, 3, {"\"valid\" is empty", "another split"});
}

TEST_F(BadData, ASampleWithoutAnyModality) {
  write("d.safetensors", [](Dataset& d) {
    for (auto& [name, feature] : d.features) {
      Tensor values = feature.values.clone();
      std::fill_n(values.mutable_data<float>() + 7 * feature.width(), feature.width(), 0.F);
      feature.values = values;
    }
  });
  expect_error(train_on("d.safetensors"), 3,
               {"1 samples have no modality at all (s07); leave them out"});
}

TEST_F(BadData, TruncatedFiles) {
  train("r");
  write("d.safetensors", [](Dataset&) {});
  for (const char* file : {kModel, "d.safetensors"})
    fs::resize_file(path(file), fs::file_size(path(file)) - 1);
  for (const char* command : {"eval", "predict", "inspect"})
    expect_error({command, kModel}, 3, {"model.safetensors", "cut off"});
  expect_error({"data", "info", "d.safetensors"}, 3, {"d.safetensors", "cut off"});
  expect_error(train_on("d.safetensors"), 3, {"d.safetensors", "cut off"});
}

TEST_F(BadData, AFileOfAnotherKind) {
  train("r");
  write("d.safetensors", [](Dataset&) {});
  for (const char* command : {"eval", "predict", "inspect"})
    expect_error({command, "d.safetensors"}, 3, {"d.safetensors", "no CmIR model", "cmir train"});
  expect_error({"data", "info", kModel}, 3, {"no data set", "cmir data convert"});
  std::ofstream(path("text")) << "hello, this is no tensor";
  expect_error({"eval", "text"}, 3, {"text", "no safetensors file"});
  expect_error({"data", "convert", "text", "x"}, 3, {"text"});
  EXPECT_FALSE(fs::exists(path("x")));
}

}  // namespace
}  // namespace cmir::test
