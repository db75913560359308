// Data at the edge of what a model can be trained on: it trains to finite numbers, or is refused
// with a message that names the sample and the remedy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cmath>

#include "models/training/evaluate.h"
#include "models/training/interrupt.h"
#include "models/training/trainer.h"
#include "tests/models/data_test.h"
#include "tests/models/small_run.h"

namespace cmir {
namespace {

using test::error_of;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Truly;

const auto kFinite = Truly([](double x) { return std::isfinite(x); });

/// The small data set with `empty` samples of its sequence "audio" cut to no rows.
Dataset without_audio(const std::vector<std::int64_t>& empty) {
  Dataset dataset = small_dataset();
  Feature& audio = dataset.features.at("audio");
  const auto width = static_cast<std::size_t>(audio.width());
  Tensor offsets = Tensor::zeros(audio.offsets.shape(), DType::i64);
  auto* kept = offsets.mutable_data<std::int64_t>();
  std::vector<float> rows;
  for (std::int64_t s = 0; s < dataset.size(); ++s) {
    const bool cut = std::ranges::count(empty, s) > 0;
    const float* from =
        audio.values.data<float>() + audio.offsets.data<std::int64_t>()[s] * audio.width();
    if (!cut) rows.insert(rows.end(), from, from + audio.length(s) * audio.width());
    kept[s + 1] = static_cast<std::int64_t>(rows.size() / width);
  }
  audio = {Tensor::from(rows, {kept[dataset.size()], audio.width()}), offsets};
  return dataset;
}

void expect_finite(const TrainResult& result) {
  for (const EpochRecord& epoch : result.state.history) {
    for (const auto& [term, value] : epoch.train) EXPECT_TRUE(std::isfinite(value)) << term;
    EXPECT_TRUE(std::isfinite(epoch.valid_loss.value_or(0)));
  }
  for (const Parameter& p : result.model->named_parameters())
    EXPECT_THAT(p.variable.value().to_vector(), Each(kFinite)) << p.name;
}

TEST(BadInput, SequencesWithoutRowsTrainAndPredict) {
  // Enough of them that whole batches and parts have none.
  std::vector<std::int64_t> empty;
  for (std::int64_t s = 0; s < 120; s += 3) empty.push_back(s);
  const PreparedData data = prepare_data(small_config(), without_audio(empty));
  Config config = small_config();
  config.training.batch_size = 2;
  const TrainResult result = train(config, data, 1);
  expect_finite(result);
  EXPECT_THAT(predict(*result.model, data, empty).values, Each(kFinite));
}

TEST(BadInput, ASampleOfWhichAllIsPaddingIsRefused) {
  Dataset dataset = without_audio({5});
  Feature& text = dataset.features.at("text");
  text.values = text.values.clone();
  std::fill_n(text.values.mutable_data<float>() + 5 * text.width(), text.width(), 0.F);
  const std::string expected = "1 samples have no modality at all (s005); leave them out";
  EXPECT_THAT(error_of([&] { prepare_data(small_config(), dataset); }), HasSubstr(expected));
  EXPECT_THAT(error_of([&] { prepare_data(small_config(), dataset, {.inference = true}); }),
              HasSubstr(expected));
}

/// Statistics over a batch of one have nothing to divide by; the last batch of an epoch may be one.
TEST(BadInput, BatchesOfOneSampleTrain) {
  for (const char* axis : {"sample", "feature"}) {
    for (const char* deviation : {"population", "unbiased"}) {
      SCOPED_TRACE(std::string(axis) + " " + deviation);
      Config config = small_config();
      config.training.batch_size = 1;
      config.training.epochs = 1;
      config.loss.decorrelation_axis = axis;
      config.loss.decorrelation_std = deviation;
      expect_finite(train(config, prepare_data(config, small_dataset()), 1));
    }
  }
}

TEST(BadInput, AWidthOfOneTrains) {
  Config config = small_config();
  config.model.shared_width = 1;  // R_dec's statistics over the features have one element
  config.data.modalities[1].heads = 1;
  config.training.epochs = 1;
  expect_finite(train(config, prepare_data(config, small_dataset()), 1));
}

TEST(BadInput, APartOfOneSampleIsEvaluated) {
  Dataset dataset = small_dataset();
  Tensor parts = dataset.splits.at("split").clone();
  bool kept = false;
  for (auto& part : parts.mutable_span<std::int32_t>()) {
    if (part != kTest && part != kValid) continue;
    part = part == kValid ? kTrain : kept ? kNoPart : kTest;
    kept = kept || part == kTest;
  }
  parts.mutable_data<std::int32_t>()[0] = kValid;
  dataset.splits.at("split") = parts;
  const PreparedData data = prepare_data(small_config(), dataset);
  ASSERT_EQ(data.split.test.size(), 1U);
  ASSERT_EQ(data.split.valid.size(), 1U);
  const TrainResult result = train(small_config(), data, 1);
  expect_finite(result);
  const MetricValues metrics =
      metrics_of(predict(*result.model, data, data.split.test), data.metric);
  EXPECT_TRUE(std::isfinite(metrics.at("MAE")));
  EXPECT_TRUE(std::isnan(metrics.at("Corr")));  // of one pair: undefined
}

/// The same configuration, but data of other widths: the checkpoint holds another model.
TEST(BadInput, ACheckpointOfAnotherModelIsRefused) {
  const test::ScratchFolder folder;
  {
    const InterruptGuard guard;
    TrainOptions options{.directory = folder.path()};
    options.on_step = [](const StepReport&) { raise(SIGINT); };
    train(small_config(), prepare_data(small_config(), small_dataset()), 1, options);
  }
  const InterruptGuard no_longer_interrupted;
  SyntheticOptions wider;
  wider.samples = 120;
  wider.modalities = {{"text", 6, false}, {"audio", 9, true}};
  const PreparedData data = prepare_data(small_config(), make_synthetic(wider));
  EXPECT_THAT(error_of([&] { train(small_config(), data, 1, {.directory = folder.path()}); }),
              AllOf(HasSubstr("'audio' is sequence of width 9"),
                    HasSubstr("the model's is sequence of width 5")));
}

}  // namespace
}  // namespace cmir
