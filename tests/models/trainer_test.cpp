#include "models/training/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/formats/safetensors.h"
#include "core/parallel.h"
#include "models/training/evaluate.h"
#include "models/training/interrupt.h"
#include "tests/models/small_run.h"

namespace cmir {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

class TrainerTest : public ::testing::Test {
 protected:
  TrainerTest() : data_(prepare_data(config_, small_dataset())) {
    directory_ = fs::temp_directory_path() / ("cmir-trainer-" + std::to_string(getpid()));
    fs::remove_all(directory_);
  }
  ~TrainerTest() override { fs::remove_all(directory_); }

  static std::vector<std::vector<float>> bits(const Model& model) {
    std::vector<std::vector<float>> all;
    for (const Parameter& p : model.named_parameters()) {
      const auto values = p.variable.value().span<float>();
      all.emplace_back(values.begin(), values.end());
    }
    return all;
  }
  static void expect_same_bits(const Model& a, const Model& b) {
    const auto x = bits(a), y = bits(b);
    ASSERT_EQ(x.size(), y.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(std::memcmp(x[i].data(), y[i].data(), x[i].size() * sizeof(float)), 0)
          << a.named_parameters()[i].name;
    }
  }

  /// `models` that are trained one after another.
  void expect_interruptions_to_leave_the_bits(const Config& config, int models = 1);

  const Config config_ = small_config();
  const PreparedData data_;
  fs::path directory_;
};

TEST_F(TrainerTest, LearnsAndRecordsEveryEpoch) {
  Config config = config_;
  config.training.epochs = 60;
  config.optimizer.learning_rate = 0.01;
  const TrainResult result = train(config, data_, 1);
  ASSERT_EQ(result.state.history.size(), 60U);
  EXPECT_EQ(result.state.step, total_steps(config, data_));
  const EpochRecord& first = result.state.history.front();
  // The other terms may rise while Z grows from its small initial values; the prediction must get
  // better.
  EXPECT_LT(result.state.history.back().train.at("prediction"), 0.7 * first.train.at("prediction"));
  EXPECT_TRUE(first.valid_loss.has_value());
  for (const char* term :
       {"prediction", "invariance.text", "decorrelation.audio", "reconstruction.text"}) {
    EXPECT_TRUE(first.train.contains(term)) << term;
  }
}

TEST_F(TrainerTest, SameBitsForOneAndTwoThreads) {
  const int before = thread_count();
  set_thread_count(1);
  const TrainResult one = train(config_, data_, 1);
  set_thread_count(2);
  const TrainResult two = train(config_, data_, 1);
  set_thread_count(before);
  expect_same_bits(*one.model, *two.model);
}

/// What the small configuration has, and cross-modal attention with dropout.
Config crossmodal(Config config) {
  config.model.fusion = "crossmodal";
  config.model.fusion_layers = 2;
  config.model.fusion_heads = 2;
  return config;
}

TEST_F(TrainerTest, CrossmodalSameBitsForOneAndTwoThreads) {
  const int before = thread_count();
  set_thread_count(1);
  const TrainResult one = train(crossmodal(config_), data_, 1);
  set_thread_count(2);
  const TrainResult two = train(crossmodal(config_), data_, 1);
  set_thread_count(before);
  expect_same_bits(*one.model, *two.model);
}

TEST_F(TrainerTest, NoEpochsLeaveTheInitialModel) {
  Config config = config_;
  config.training.epochs = 0;
  config.training.checkpoint = "last";
  const TrainResult result = train(config, data_, 9);
  EXPECT_EQ(result.state.step, 0);
  EXPECT_TRUE(result.state.history.empty());
  const Model initial(config, data_.modalities, 9);
  for (std::size_t i = 0; i < initial.named_parameters().size(); ++i) {
    EXPECT_EQ(result.model->named_parameters()[i].variable.value().to_vector(),
              initial.named_parameters()[i].variable.value().to_vector());
  }
}

TEST_F(TrainerTest, AnotherSeedGivesAnotherModel) {
  const auto a = bits(*train(config_, data_, 1).model), b = bits(*train(config_, data_, 2).model);
  EXPECT_NE(a, b);
}

TEST_F(TrainerTest, TheWeightOfInvarianceFollowsItsSchedule) {
  Config config = config_;
  config.loss.invariance_schedule = "step";
  config.loss.invariance_anneal_fraction = 0.5;
  std::vector<bool> weighed;  // the total has more than the other terms
  TrainOptions options;
  options.on_step = [&](const StepReport& report) {
    double others = report.losses.at("prediction"), invariance = 0;
    for (const auto& [name, value] : report.losses) {
      if (name.starts_with("invariance.")) invariance += config.loss.lambda_invariance * value;
      if (name.starts_with("decorrelation.")) others += config.loss.lambda_decorrelation * value;
      if (name.starts_with("reconstruction.")) others += config.loss.lambda_reconstruction * value;
    }
    const double total = report.losses.at("total");
    weighed.push_back(std::abs(total - others - invariance) < std::abs(total - others));
  };
  const auto steps = static_cast<std::size_t>(train(config, data_, 1, options).state.step);
  for (std::size_t i = 0; i < steps; ++i) EXPECT_EQ(weighed[i], i >= (steps + 1) / 2) << i;
}

/// Stops after every step, by the flag that Ctrl-C raises, and goes on from the checkpoint.
void TrainerTest::expect_interruptions_to_leave_the_bits(const Config& config, int models) {
  const PreparedData data = prepare_data(config, small_dataset());
  const TrainResult whole = train(config, data, 5);
  const InterruptGuard guard;
  TrainOptions options{.directory = directory_};
  TrainResult result;
  int runs = 0;
  do {
    const InterruptGuard fresh;
    raise(SIGINT);
    result = train(config, data, 5, options);
    EXPECT_EQ(result.resumed, runs > 0);
    ++runs;
  } while (result.interrupted && runs < 1000);
  const InterruptGuard no_longer_interrupted;  // for the tests after this one
  const auto steps = static_cast<int>(total_steps(config, data));
  EXPECT_GT(runs, models * steps);
  EXPECT_LE(runs, models * (steps + 1));  // nothing was done twice
  EXPECT_FALSE(fs::exists(directory_ / "reference"));
  expect_same_bits(*whole.model, *result.model);
  EXPECT_EQ(to_json(whole.state.history), to_json(result.state.history));
}

TEST_F(TrainerTest, InterruptedAtEveryStepEndsWithTheSameBits) {
  Config config = config_;
  config.loss.decorrelation = "club_sample";  // whose q has an optimizer of its own
  config.loss.estimator_steps = 2;
  config.loss.invariance_schedule = "linear";
  config.loss.invariance_anneal_fraction = 0.7;
  expect_interruptions_to_leave_the_bits(config);
}

TEST_F(TrainerTest, InterruptedWithCrossmodalFusionEndsWithTheSameBits) {
  expect_interruptions_to_leave_the_bits(crossmodal(config_));
}

TEST_F(TrainerTest, InterruptedWithInferredEnvironmentsEndsWithTheSameBits) {
  Config config = config_;
  config.loss.environments_from = "inferred";
  config.loss.invariance = "vrex";
  expect_interruptions_to_leave_the_bits(config, 2);
}

TEST_F(TrainerTest, InterruptedWithGivenEnvironmentsEndsWithTheSameBits) {
  Config config = config_;
  config.data.environment = "environment";
  config.loss.environments_from = "data";
  config.loss.invariance = "irmv1";
  expect_interruptions_to_leave_the_bits(config);
}

/// A child process is killed outright in the middle of an epoch, between checkpoints.
TEST_F(TrainerTest, KilledProcessResumesWithTheSameBits) {
  const TrainResult whole = train(config_, data_, 9);
  const int threads = thread_count();
  set_thread_count(1);  // a forked child has no worker threads to wait for
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    TrainOptions options{.directory = directory_, .checkpoint_steps = 2};
    options.on_step = [](const StepReport& report) {
      if (report.state.step == 7) raise(SIGKILL);
    };
    train(config_, data_, 9, options);
    _exit(0);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  set_thread_count(threads);
  std::int64_t first_step = -1;
  TrainOptions options{.directory = directory_};
  options.on_step = [&](const StepReport& report) {
    if (first_step < 0) first_step = report.state.step;
  };
  const TrainResult resumed = train(config_, data_, 9, options);
  EXPECT_TRUE(resumed.resumed);
  EXPECT_EQ(first_step, 7);  // the checkpoint is of step 6
  expect_same_bits(*whole.model, *resumed.model);
}

TEST_F(TrainerTest, SavedModelPredictsTheSame) {
  const TrainResult result = train(config_, data_, 1, {.directory = directory_});
  const LoadedModel loaded = load_model(directory_ / "model.safetensors");
  expect_same_bits(*result.model, loaded.model);
  const PreparedData again = prepare_data(loaded.description.config, small_dataset(),
                                          {.standardiser = &loaded.standardiser});
  EXPECT_EQ(predict(*result.model, data_, data_.split.test).values,
            predict(loaded.model, again, again.split.test).values);
}

TEST_F(TrainerTest, NonFiniteLossNamesBatchTermAndKeepsTheCheckpoint) {
  Config config = config_;
  config.optimizer.learning_rate = 1e30;
  config.optimizer.gradient_clip = 0;
  config.optimizer.warmup_fraction = 0;
  try {
    train(config, data_, 1, {.directory = directory_, .checkpoint_steps = 1});
    FAIL() << "a learning rate of 1e30 trained";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::numeric);
    EXPECT_THAT(error.what(), HasSubstr("batch 2 of epoch 1"));
    EXPECT_THAT(error.what(), HasSubstr("term"));
    EXPECT_THAT(error.what(), HasSubstr("arameter"));
  }
  EXPECT_NO_THROW(SafeTensors::open(directory_ / "checkpoint.safetensors"));
}

TEST_F(TrainerTest, CheckpointOfAnotherRunIsRefused) {
  train(config_, data_, 1, {.directory = directory_});
  Config other = config_;
  other.loss.environments = 3;
  for (const auto& [config, seed] : {std::pair{other, 1}, std::pair{config_, 2}}) {
    try {
      train(config, data_, seed, {.directory = directory_});
      FAIL() << "resumed another run";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::usage);
      EXPECT_THAT(error.what(), HasSubstr("another"));
    }
  }
}

TEST_F(TrainerTest, TruncatedCheckpointIsAnErrorNotACrash) {
  train(config_, data_, 1, {.directory = directory_});
  const fs::path file = directory_ / "checkpoint.safetensors";
  fs::resize_file(file, fs::file_size(file) / 2);
  EXPECT_THROW(train(config_, data_, 1, {.directory = directory_}), Error);
}

TEST_F(TrainerTest, UnwritableDirectoryIsAnError) {
  std::ofstream(directory_.string()) << "a file where the directory should be";
  EXPECT_THROW(train(config_, data_, 1, {.directory = directory_ / "run"}), std::exception);
}

TEST_F(TrainerTest, ValidationRulesNeedAValidationPart) {
  PreparedData without = data_;
  without.split.valid.clear();
  try {
    train(config_, without, 1);
    FAIL() << "chose the best epoch without a validation part";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("validation"));
  }
}

TEST_F(TrainerTest, EarlyStoppingWaitsForItsPatience) {
  Config config = config_;
  config.training.epochs = 50;
  config.training.patience = 2;
  config.optimizer.learning_rate = 0.03;
  const TrainResult result = train(config, data_, 1);
  EXPECT_LT(result.state.epoch, 50);
  EXPECT_EQ(result.state.epoch - result.state.best_epoch, 2);
}

}  // namespace
}  // namespace cmir
