#include "models/training/sample_environments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "models/training/prepare.h"
#include "tests/message_of.h"
#include "tests/models/small_run.h"

namespace cmir {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Dataset six_samples() {
  Dataset dataset;
  dataset.name = "toy";
  dataset.ids = {"a", "b", "c", "d", "e", "f"};
  dataset.extras["speaker"] = Tensor::from<std::int32_t>({900, 7, 7, 3, 7, 900}, {6});
  dataset.extras["age"] = Tensor::zeros({6});
  dataset.extras["words"] = Tensor::zeros({9}, DType::i32);
  dataset.labels["sarcasm"] = {Tensor::from<std::int32_t>({0, 1, 1, 0, 0, 1}, {6}),
                               LabelKind::binary, 0, 1};
  dataset.labels["score"] = {Tensor::zeros({6}), LabelKind::regression, -3, 3};
  dataset.folds["five"] = Tensor::from<std::int32_t>({0, 1, 2, 3, 4, 0}, {6});
  dataset.group = Tensor::from<std::int32_t>({0, 0, 1, 1, 2, 2}, {6});
  return dataset;
}
const std::vector<std::int64_t> kTrain = {0, 1, 2, 4};

TEST(SampleEnvironments, NumbersThoseOfTheTrainingPartAnew) {
  const auto speakers = environments_of_data(six_samples(), "speaker", kTrain);
  EXPECT_EQ(speakers.count, 2);
  EXPECT_THAT(speakers.labels.to_vector(), ElementsAre(1, 0, 0, -1, 0, -1));
  EXPECT_EQ(environments_of_data(six_samples(), "group", kTrain).count, 3);
  EXPECT_EQ(environments_of_data(six_samples(), "sarcasm", kTrain).count, 2);
  EXPECT_EQ(environments_of_data(six_samples(), "five", kTrain).count, 4);
}

TEST(SampleEnvironments, GroupsABatch) {
  const auto speakers = environments_of_data(six_samples(), "speaker", kTrain);
  const std::vector<std::int64_t> batch = {4, 0, 1}, one_environment = {1, 4};
  const auto groups = speakers.groups(batch);
  EXPECT_THAT(groups.offsets.to_vector(), ElementsAre(0, 2, 3));
  EXPECT_THAT(groups.order.to_vector(), ElementsAre(0, 2, 1));
  EXPECT_THAT(speakers.groups(one_environment).offsets.to_vector(), ElementsAre(0, 2, 2));
  const std::vector<std::int64_t> not_for_training = {0, 3};
  EXPECT_THROW(speakers.groups(not_for_training), Error);
}

TEST(SampleEnvironments, NamesWhatIsWrong) {
  Dataset dataset = six_samples();
  const auto message = [&](const char* name) {
    return message_of([&] { environments_of_data(dataset, name, kTrain); });
  };
  EXPECT_THAT(message("speakers"),
              HasSubstr("has no integers \"speakers\"; it has five, group, sarcasm, speaker"));
  EXPECT_THAT(message("age"), HasSubstr("has no integers \"age\""));
  EXPECT_THAT(message("words"), HasSubstr("has no integers \"words\""));
  EXPECT_THAT(message("score"), HasSubstr("has no integers \"score\""));
  dataset.extras["speaker"].mutable_span<std::int32_t>()[4] = -2;
  EXPECT_THAT(message("speaker"),
              AllOf(HasSubstr("\"speaker\" of sample 'e' is -2"), HasSubstr("integers from 0")));
  dataset.extras["one"] = Tensor::zeros({6}, DType::i32);
  EXPECT_THAT(message("one"), HasSubstr("1 environment of \"one\""));
}

TEST(SampleEnvironments, AreCheckedWhenDataArePrepared) {
  Config config = small_config();
  EXPECT_EQ(prepare_data(config, small_dataset()).environments.count, 0);
  config.data.environment = "environment";
  EXPECT_EQ(prepare_data(config, small_dataset()).environments.count, 2);
  config.data.environment = "speaker";
  EXPECT_THAT(message_of([&] { prepare_data(config, small_dataset()); }),
              HasSubstr("it has environment"));
  EXPECT_NO_THROW(prepare_data(config, small_dataset(), {.inference = true}));
}

}  // namespace
}  // namespace cmir
