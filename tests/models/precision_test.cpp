// Training and prediction in the precision that training.precision names.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/formats/safetensors.h"
#include "core/parallel.h"
#include "models/training/evaluate.h"
#include "models/training/interrupt.h"
#include "models/training/trainer.h"
#include "tests/models/small_run.h"

namespace cmir {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

Config config_in(const std::string& precision, const std::string& device = "cpu") {
  Config config = small_config();
  config.training.precision = precision;
  config.training.device = device;
  return config;
}

class PrecisionTest : public ::testing::Test {
 protected:
  PrecisionTest() : data_(prepare_data(small_config(), small_dataset())) {
    directory_ = fs::temp_directory_path() / ("cmir-precision-" + std::to_string(getpid()));
    fs::remove_all(directory_);
  }
  ~PrecisionTest() override { fs::remove_all(directory_); }

  /// Every loss term of every step, by name.
  std::vector<LossValues> losses(const Config& config) const {
    std::vector<LossValues> all;
    TrainOptions options;
    options.on_step = [&](const StepReport& report) { all.push_back(report.losses); };
    train(config, data_, 1, options);
    return all;
  }
  static std::vector<std::vector<double>> parameters(const TrainResult& result) {
    std::vector<std::vector<double>> all;
    for (const Parameter& p : result.model->named_parameters())
      all.push_back(p.variable.value().to_vector());
    return all;
  }

  const PreparedData data_;
  fs::path directory_;
};

/// All terms of all steps within `tolerance` max(1, |expected|).
void expect_near(const std::vector<LossValues>& actual, const std::vector<LossValues>& expected,
                 double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t step = 0; step < actual.size(); ++step) {
    for (const auto& [term, value] : expected[step]) {
      EXPECT_NEAR(actual[step].at(term), value, tolerance * std::max(1.0, std::abs(value)))
          << "step " << step << ", " << term;
    }
  }
}

TEST_F(PrecisionTest, Bf16TrainsNearF32OnTheCpuAndThroughTheCudaKernels) {
  const auto f32 = losses(config_in("f32")), cpu = losses(config_in("bf16")),
             simt = losses(config_in("bf16", "simt"));
  expect_near(cpu, f32, 0.02);
  expect_near(simt, f32, 0.02);
  EXPECT_NE(cpu, f32);
  EXPECT_NE(simt, losses(config_in("f32", "simt")));
}

TEST_F(PrecisionTest, Bf16Learns) {
  struct Case {
    const char* device;
    std::int64_t epochs;  // the host model takes its time
    double part;          // of the first epoch's loss that may be left
  };
  for (const auto& [device, epochs, part] : {Case{"cpu", 60, 0.7}, {"simt", 8, 1.0}}) {
    Config config = config_in("bf16", device);
    config.training.epochs = epochs;
    config.optimizer.learning_rate = 0.01;
    const auto history = train(config, data_, 1).state.history;
    EXPECT_LT(history.back().train.at("prediction"), part * history.front().train.at("prediction"))
        << device;
  }
}

TEST_F(PrecisionTest, Bf16HasTheSameBitsAgainAndForAnyThreadCount) {
  const int before = thread_count();
  set_thread_count(1);
  const auto one = parameters(train(config_in("bf16"), data_, 1)),
             again = parameters(train(config_in("bf16"), data_, 1));
  set_thread_count(2);
  const auto two = parameters(train(config_in("bf16"), data_, 1));
  set_thread_count(before);
  EXPECT_EQ(one, again);
  EXPECT_EQ(one, two);
  EXPECT_NE(one, parameters(train(config_in("f32"), data_, 1)));
  EXPECT_EQ(losses(config_in("bf16", "simt")), losses(config_in("bf16", "simt")));
}

TEST_F(PrecisionTest, Bf16InterruptedAtEveryStepEndsWithTheSameBits) {
  const TrainResult whole = train(config_in("bf16"), data_, 5);
  TrainOptions options{.directory = directory_};
  options.on_step = [](const StepReport&) { raise(SIGINT); };
  TrainResult result;
  int runs = 0;
  do {
    const InterruptGuard guard;
    result = train(config_in("bf16"), data_, 5, options);
    EXPECT_EQ(result.resumed, runs > 0);
    ++runs;
  } while (result.interrupted && runs < 1000);
  const InterruptGuard no_longer_interrupted;  // for the tests after this one
  EXPECT_GT(runs, static_cast<int>(total_steps(small_config(), data_)));
  EXPECT_EQ(parameters(whole), parameters(result));
  EXPECT_EQ(to_json(whole.state.history), to_json(result.state.history));
}

TEST_F(PrecisionTest, CheckpointsAreF32AndOfOnePrecision) {
  train(config_in("bf16"), data_, 1, {.directory = directory_});
  for (const char* name : {kCheckpointFile, kModelFile}) {
    const SafeTensors content = SafeTensors::open(directory_ / name);
    ASSERT_FALSE(content.names().empty());
    for (const std::string& tensor : content.names())
      EXPECT_NE(content.at(tensor).dtype(), DType::bf16) << tensor;
  }
  try {
    train(config_in("f32"), data_, 1, {.directory = directory_});
    FAIL() << "resumed a run of another precision";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("another configuration"));
  }
}

TEST_F(PrecisionTest, PredictionHasTheModelsPrecision) {
  const TrainResult result = train(config_in("bf16"), data_, 1, {.directory = directory_});
  const auto values = predict(*result.model, data_, data_.split.test).values;
  const LoadedModel loaded = load_model(directory_ / kModelFile);
  EXPECT_EQ(loaded.description.config.training.precision, "bf16");
  EXPECT_EQ(predict(loaded.model, data_, data_.split.test).values, values);
  Model f32(config_in("f32"), data_.modalities, 1);  // the same parameters, multiplied in f32
  for (std::size_t i = 0; i < f32.named_parameters().size(); ++i) {
    Variable variable = f32.named_parameters()[i].variable;
    variable.mutable_value().copy_from(result.model->named_parameters()[i].variable.value());
  }
  const auto exact = predict(f32, data_, data_.split.test).values;
  EXPECT_NE(exact, values);
  for (std::size_t i = 0; i < exact.size(); ++i) EXPECT_NEAR(exact[i], values[i], 0.02) << i;
  const auto of = [&](const Model& model) {
    return represent(model, data_, data_.split.test)[1].invariant;
  };
  EXPECT_NE(of(f32), of(*result.model));
}

/// Without a GPU, tf32 is f32.
TEST_F(PrecisionTest, Tf32HasTheBitsOfF32OnTheCpu) {
  EXPECT_EQ(parameters(train(config_in("tf32"), data_, 1)),
            parameters(train(config_in("f32"), data_, 1)));
}

TEST_F(PrecisionTest, TheKeyTakesPrecisionsOnly) {
  Config config = small_config();
  apply_override(config, "training.precision=bf16");
  EXPECT_EQ(config.training.precision, "bf16");
  try {
    apply_override(config, "training.precision=f16");
    FAIL() << "took f16";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("f32, tf32, bf16"));
  }
}

}  // namespace
}  // namespace cmir
