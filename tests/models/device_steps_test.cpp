// Steps that are recorded and replayed, on simt with the CPU's kernels, and the shapes they share.
#include "models/training/device_steps.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "core/error.h"
#include "models/networks/batch_input.h"
#include "models/training/prepare.h"
#include "models/training/trainer.h"
#include "tests/kernels/cpu_on_simt.h"
#include "tests/message_of.h"
#include "tests/models/small_run.h"

namespace cmir {
namespace {

using ::testing::HasSubstr;

Tensor offsets_of(const std::vector<std::int64_t>& lengths) {
  std::vector<std::int64_t> offsets{0};
  for (const std::int64_t length : lengths) offsets.push_back(offsets.back() + length);
  return Tensor::from(offsets, {static_cast<std::int64_t>(offsets.size())});
}

TEST(SequenceBucket, PadsToItsRowsWithoutALongerSequence) {
  std::uint32_t state = 1;
  const auto random = [&](std::uint32_t below) {
    state = state * 1664525 + 1013904223;
    return static_cast<std::int64_t>((state >> 8) % below);
  };
  for (int i = 0; i < 3000; ++i) {
    std::vector<std::int64_t> lengths(1 + random(40));
    const auto most = static_cast<std::uint32_t>(1 + random(i % 7 == 0 ? 1000 : 50));
    for (std::int64_t& length : lengths) length = random(most + 1);
    const Tensor offsets = offsets_of(lengths);
    const SequenceBucket bucket = SequenceBucket::of(offsets, 2000);
    const auto padded = bucket.padded(offsets);
    ASSERT_EQ(padded.size(), lengths.size() + bucket.padding + 1);
    ASSERT_EQ(padded.back(), bucket.rows);
    std::int64_t longest = 0;
    for (std::size_t s = 0; s + 1 < padded.size(); ++s) {
      ASSERT_LE(padded[s], padded[s + 1]);
      longest = std::max(longest, padded[s + 1] - padded[s]);
      if (s < lengths.size()) {
        ASSERT_EQ(padded[s + 1] - padded[s], lengths[s]);
      }
    }
    ASSERT_EQ(longest, bucket.longest);  // so what depends on it is the same for the whole bucket
  }
}

TEST(SequenceBucket, IsBoundedByTheLongestThatThereIs) {
  EXPECT_EQ(SequenceBucket::of(offsets_of({33, 2}), 34).longest, 34);
  EXPECT_EQ(SequenceBucket::of(offsets_of({33, 2}), 1000).longest, 40);
  EXPECT_EQ(SequenceBucket::of(offsets_of({0, 0}), 0).longest, 1);
  EXPECT_EQ(SequenceBucket::of(offsets_of({50, 50, 50, 50}), 50).rows, 256);
  EXPECT_EQ(SequenceBucket::of(offsets_of({50, 50, 50, 50}), 50, 8).rows, 256);
  EXPECT_EQ(SequenceBucket::of(offsets_of({50, 50, 50, 60}), 60, 8).rows, 288);
}

/// small_config() with everything random, and of its vectors "text" and sequences "audio" those
/// that are named.
Config config_with(const std::set<std::string>& modalities) {
  Config config = small_config();
  config.data.modalities[0].network = "mlp";
  config.data.modalities[0].dropout = 0.2;
  config.data.modalities[1].attention_dropout = 0.1;
  config.data.modalities[1].positions = "sinusoidal";
  std::erase_if(config.data.modalities,
                [&](const ModalityConfig& m) { return !modalities.contains(m.name); });
  config.noise.train_kind = "laplace_or_erase";
  config.noise.train_rate = 0.1;
  config.loss.decorrelation = modalities.contains("text") ? "club_sample" : "correlation";
  config.loss.estimator_steps = 2;
  config.loss.sufficiency = "input";
  config.loss.invariance_schedule = "linear";
  config.loss.invariance_start = 5;
  config.loss.invariance_anneal_fraction = 0.6;
  config.loss.invariance = modalities.contains("text") ? "l1" : "vrex";
  config.training.device = "simt";
  config.training.checkpoint = "last";
  config.training.batch_size = 8;
  config.training.epochs = 6;
  return config;
}

struct TrainedRun {
  std::vector<LossValues> losses;
  std::vector<double> parameters;
};

TrainedRun run_of(Config config, const std::string& device, bool capture) {
  config.training.device = device;
  config.training.capture = capture;
  TrainedRun run;
  TrainOptions options;
  options.on_step = [&](const StepReport& report) { run.losses.push_back(report.losses); };
  const TrainResult result = train(config, prepare_data(config, small_dataset()), 3, options);
  for (const Parameter& p : result.model->named_parameters()) {
    for (const double x : p.variable.value().to_vector()) run.parameters.push_back(x);
  }
  return run;
}

class DeviceStepsTest : public ::testing::Test {
 protected:
  const kernels::testing::AllCpuKernelsOnSimt borrowed_;
};

/// A replay repeats what was frozen into it by mistake: a step of dropout, a rate, an address.
TEST_F(DeviceStepsTest, ReplaysGiveTheBitsOfTheSameOpsOneByOne) {
  for (const char* modality : {"text", "audio"}) {
    Config config = config_with({modality});
    config.training.epochs = 10;
    const TrainedRun recorded = run_of(config, "simt", true), plain = run_of(config, "simt", false);
    ASSERT_GT(plain.losses.size(), 20U);
    EXPECT_EQ(recorded.losses, plain.losses);
    EXPECT_EQ(recorded.parameters, plain.parameters);
  }
}

/// What learns beside the model, and keeps its state, is in the graph too.
TEST_F(DeviceStepsTest, EveryFormOfATermCanBeRecorded) {
  const auto compare = [](const Config& config, const std::string& what) {
    const TrainedRun recorded = run_of(config, "simt", true), plain = run_of(config, "simt", false);
    EXPECT_EQ(recorded.losses, plain.losses) << what;
    EXPECT_EQ(recorded.parameters, plain.parameters) << what;
  };
  for (const char* form :
       {"hsic", "club", "club_mean", "l1out", "variational", "infonce", "nwj", "mine"}) {
    Config config = config_with({"text"});
    config.loss.decorrelation = form;
    compare(config, form);
  }
  for (const char* form : {"mmd", "coral", "irmv1", "mmrex"}) {
    Config config = config_with({"text"});
    config.loss.invariance = form;
    compare(config, form);
  }
}

/// Modalities attend to each other at lengths that change from batch to batch, vectors among them.
TEST_F(DeviceStepsTest, CrossmodalFusionCanBeRecorded) {
  for (const char* place : {"before", "after"}) {
    Config config = config_with({"text", "audio"});
    config.model.fusion = "crossmodal";
    config.model.fusion_place = place;
    config.model.fusion_layers = 1;
    config.model.fusion_heads = 2;
    config.model.representation_dropout = 0.1;
    config.training.epochs = 3;
    const TrainedRun recorded = run_of(config, "simt", true), plain = run_of(config, "simt", false),
                     here = run_of(config, "cpu", true);
    ASSERT_GT(plain.losses.size(), 20U);
    EXPECT_EQ(recorded.losses, plain.losses) << place;
    EXPECT_EQ(recorded.parameters, plain.parameters) << place;
    for (std::size_t i = 0; i < here.losses.size(); ++i) {
      const double value = here.losses[i].at("total");
      EXPECT_NEAR(recorded.losses[i].at("total"), value, 1e-3 * (0.1 + std::abs(value)))
          << place << " step " << i;
    }
  }
}

TEST(ShapeBucket, GivesEverySequenceTheSamePadding) {
  ModelInput input;
  input.modalities["audio"] = {Tensor::zeros({300, 2}), offsets_of({100, 150, 50})};
  input.modalities["text"] = {Tensor::zeros({9, 2}), offsets_of({3, 4, 2})};
  const ShapeBucket bucket = ShapeBucket::of(input, {{"audio", 150}, {"text", 4}});
  EXPECT_EQ(bucket.sequences.at("audio").padding, bucket.sequences.at("text").padding);
  for (const auto& [name, modality] : input.modalities) {
    const SequenceBucket& sequences = bucket.sequences.at(name);
    const auto padded = sequences.padded(modality.offsets);
    EXPECT_EQ(std::ssize(padded), 3 + sequences.padding + 1) << name;
    EXPECT_EQ(padded.back(), sequences.rows) << name;
  }
}

/// The labels and the sizes of the environments change from batch to batch.
TEST_F(DeviceStepsTest, ReplaysReadTheEnvironmentsOfTheirBatch) {
  for (const char* form : {"irmv1", "vrex", "mmrex", "mmd", "coral"}) {
    Config config = config_with({"text"});
    config.data.environment = "environment";
    config.loss.environments_from = form == std::string("vrex") ? "inferred" : "data";
    config.loss.invariance = form;
    config.loss.lambda_invariance = 1;
    config.training.epochs = 4;
    const TrainedRun recorded = run_of(config, "simt", true), plain = run_of(config, "simt", false),
                     here = run_of(config, "cpu", true);
    ASSERT_GT(plain.losses.size(), 20U);
    EXPECT_EQ(recorded.losses, plain.losses) << form;
    EXPECT_EQ(recorded.parameters, plain.parameters) << form;
    const std::string term = form == std::string("mmd") || form == std::string("coral")
                                 ? "invariance.text"
                                 : "invariance";
    for (std::size_t i = 0; i < here.losses.size(); ++i) {
      const double value = here.losses[i].at(term);
      EXPECT_NEAR(recorded.losses[i].at(term), value, 1e-3 * (0.1 + std::abs(value)))
          << form << " of step " << i;
    }
  }
}

TEST_F(DeviceStepsTest, TheyAreTheStepsOfTheCpu) {
  for (const Config& config : {config_with({"text"}), config_with({"text", "audio"})}) {
    const TrainedRun there = run_of(config, "simt", true), here = run_of(config, "cpu", true);
    ASSERT_EQ(there.losses.size(), here.losses.size());
    for (std::size_t i = 0; i < here.losses.size(); ++i) {
      for (const auto& [term, value] : here.losses[i])
        EXPECT_NEAR(there.losses[i].at(term), value, 1e-4 * (0.1 + std::abs(value)))
            << term << " of step " << i;
    }
  }
}

class Steps {
 public:
  explicit Steps(const Config& config, bool record = true) : Steps(config, config, record) {}
  Steps(const Config& config, const Config& data_config, bool record)
      : config_(config),
        data_(prepare_data(data_config, small_dataset())),
        model_(config, data_.modalities, 1),
        optimizer_({{.parameters = model_.named_parameters()}}),
        steps_(model_, optimizer_, Schedule::make("constant", 100, 0),
               {.longest = longest_sequences(config, data_.dataset, data_.split.train),
                .record = record}) {}

  ModelInput input(const std::vector<std::int64_t>& samples) const {
    return model_input(config_, gather(data_.dataset, data_.fields, samples)).to(model_.device());
  }
  std::vector<double> first_parameter() const {
    return model_.named_parameters()[0].variable.value().to_vector();
  }

  const Config config_;
  const PreparedData data_;
  Model model_;
  AdamW optimizer_;
  DeviceSteps steps_;
};

TEST_F(DeviceStepsTest, TheThirdBatchOfAShapeIsRecorded) {
  Steps s(config_with({"text"}));
  const std::vector<std::pair<std::vector<std::int64_t>, std::size_t>> recorded_after = {
      {{0, 1, 2}, 0}, {{1, 2, 3}, 0}, {{7, 8}, 0}, {{2, 3, 4}, 1}, {{3, 4, 5}, 1},
      {{8, 9}, 1},    {{6, 7}, 2},    {{1}, 2},    {{4, 5, 6}, 2}};
  for (const auto& [samples, count] : recorded_after) {
    s.steps_.submit(s.input(samples));
    EXPECT_EQ(s.steps_.recorded(), count);
  }
  EXPECT_EQ(s.steps_.pending(), recorded_after.size());
  EXPECT_EQ(s.optimizer_.step_count(), static_cast<std::int64_t>(recorded_after.size()));
}

/// What a graph reads must outlive it: the sinusoids of short sequences, when longer ones have
/// come.
TEST_F(DeviceStepsTest, AGraphSurvivesALongerBatch) {
  Steps s(config_with({"audio"}));
  const auto batch = [&](std::int64_t each) {
    ModelInput input = s.input({0, 1, 2});
    ModalityInput& audio = input.modalities.at("audio");
    audio.offsets = offsets_of({each, each, each});
    audio.values = Tensor::full({3 * each, 5}, 0.5, DType::f32, s.model_.device());
    return input;
  };
  for (int i = 0; i < 3; ++i) s.steps_.submit(batch(2));
  EXPECT_EQ(s.steps_.recorded(), 1U);
  s.steps_.submit(batch(70));
  std::vector<Tensor> poison;
  for (int i = 0; i < 160; ++i)
    poison.push_back(Tensor::full({16 << i % 4}, std::numeric_limits<double>::quiet_NaN()));
  s.steps_.submit(batch(2));
  while (s.steps_.pending() > 0) {
    EXPECT_EQ(s.steps_.take().failure, "");
  }
}

TEST_F(DeviceStepsTest, ValuesOutOfRangeAreFoundInReplaysToo) {
  Config config = config_with({"text"});
  config.data.task = "binary";
  config.loss.prediction = "bce";
  Steps s(config, config_with({"text"}), true);
  ModelInput input = s.input({0, 1, 2});
  input.labels = Tensor::from({0.0F, 1.0F, 0.5F}, {3});
  for (int i = 0; i < 4; ++i) s.steps_.submit(input);
  EXPECT_EQ(s.steps_.recorded(), 1U);
  input.labels = Tensor::from({0.0F, 1.5F, 0.5F}, {3});
  EXPECT_THAT(message_of([&] { s.steps_.submit(input); }),
              HasSubstr("target 1 is 1.5, outside [0, 1]"));
}

TEST_F(DeviceStepsTest, SequencesOfOtherLengthsShareAGraphToo) {
  Steps s(config_with({"audio"}));
  std::int64_t batches = 0;
  for (std::int64_t i = 0; i + 16 < 40; ++i, ++batches) {
    std::vector<std::int64_t> samples(16);
    for (std::size_t k = 0; k < samples.size(); ++k) samples[k] = i + static_cast<std::int64_t>(k);
    s.steps_.submit(s.input(samples));
  }
  EXPECT_GE(batches, 20);
  EXPECT_LE(s.steps_.recorded(), 4U);
  EXPECT_GE(s.steps_.recorded(), 1U);
}

TEST_F(DeviceStepsTest, ANumberThatIsNotFiniteStopsItAndIsNamed) {
  for (const bool record : {false, true}) {
    for (const bool in_loss : {true, false}) {
      Steps s(config_with({"text"}), record);
      const ModelInput good = s.input({0, 1, 2});
      for (int i = 0; i < 4; ++i) s.steps_.submit(good);
      while (s.steps_.pending() > 0) {
        EXPECT_EQ(s.steps_.take().failure, "");
      }
      ModelInput bad = s.input({0, 1, 2});
      bad.labels = bad.labels.clone();
      // The square of 1e30 overflows.
      bad.labels.mutable_span<float>()[1] =
          in_loss ? 1e30F : std::numeric_limits<float>::quiet_NaN();
      s.steps_.submit(bad);
      const auto before = s.first_parameter();
      s.steps_.submit(good);
      EXPECT_THAT(s.steps_.take().failure, HasSubstr("the loss term 'prediction' is"));
      EXPECT_THAT(s.steps_.take().failure, HasSubstr("an earlier step"));
      EXPECT_EQ(s.first_parameter(), before);
    }
  }
}

}  // namespace
}  // namespace cmir
