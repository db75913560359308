#include "models/networks/batch_input.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "models/networks/cmir.h"
#include "models/training/units.h"

namespace cmir {
namespace {

std::filesystem::path data_directory() {
  const char* given = std::getenv("CMIR_DATA");
  return given != nullptr ? given : std::filesystem::path(CMIR_SOURCE_DIR) / "../shared/data";
}

Dataset two_samples() {
  Dataset dataset;
  dataset.ids = {"a", "b"};
  dataset.vocabulary = {"<pad>", "yes", "no"};
  dataset.features["frames"] = {Tensor::from<float>({1, 2, 3, 4, 5, 6, 7, 8}, {4, 2}),
                                Tensor::from<std::int64_t>({0, 3, 4}, {3})};
  dataset.tokens["tok"] = {Tensor::from<std::int32_t>({1, 2, 1}, {3}),
                           Tensor::from<std::int64_t>({0, 2, 3}, {3})};
  dataset.embeddings["tw25"] = Tensor::zeros({3, 5});
  dataset.labels["label"] = {Tensor::from<float>({0.5F, -1}, {2}), LabelKind::regression, -3, 3};
  return dataset;
}
Config two_modalities() {
  Config config;
  config.data.label = "label";
  config.data.modalities = {
      {.name = "text", .feature = "tok", .network = "conv_transformer", .embedding = "emb_tw25"},
      {.name = "audio", .feature = "frames", .network = "conv_transformer"}};
  return config;
}

TEST(BatchInput, DescribesWhatTheDataSetHolds) {
  const auto info = describe_modalities(two_modalities(), two_samples());
  ASSERT_EQ(info.size(), 2U);
  EXPECT_EQ(info[0].kind, InputKind::tokens);
  EXPECT_EQ(info[0].width, 3);
  EXPECT_EQ(info[0].embedding.shape(), (Shape{3, 5}));
  EXPECT_EQ(info[1].kind, InputKind::sequence);
  EXPECT_EQ(info[1].width, 2);
  Config wrong = two_modalities();
  wrong.data.modalities[1].feature = "frame";
  EXPECT_THROW(describe_modalities(wrong, two_samples()), Error);
}

TEST(BatchInput, KeepsTheFirstRowsOfLongSequences) {
  Config config = two_modalities();
  config.data.max_length = 2;
  const std::vector<std::int64_t> both = {0, 1};
  const Batch batch = gather(two_samples(), batch_fields(config), both);
  const ModelInput input = model_input(config, batch);
  EXPECT_THAT(input.modalities.at("audio").values.to_vector(),
              ::testing::ElementsAre(1, 2, 3, 4, 7, 8));
  EXPECT_THAT(input.modalities.at("audio").offsets.to_vector(), ::testing::ElementsAre(0, 2, 3));
  EXPECT_TRUE(input.modalities.at("text").values.shares_storage(batch.inputs.at("tok").x));
  EXPECT_THAT(input.labels.to_vector(), ::testing::ElementsAre(0.5, -1));
  EXPECT_THROW(model_input(config, Batch{}), Error);
}

/// The shipped configurations name what their data set has, and give a finite loss on its first
/// training samples.
class ShippedConfig : public ::testing::TestWithParam<const char*> {};

TEST_P(ShippedConfig, TrainsOnItsDataSet) {
  const Config config = load_config(find_config(GetParam()));
  std::string where = config.data.name;
  if (where != "synthetic") {
    where = (data_directory() / where).string();
    if (!std::filesystem::exists(where)) GTEST_SKIP() << where << " is absent";
  }
  const Dataset dataset = open_dataset(where);
  const Split split = resolve_split(
      dataset, config.data.split,
      {.test_fold = static_cast<std::int32_t>(std::max<std::int64_t>(config.data.fold, 0)),
       .validation_fraction = config.data.validation_fraction});
  const Model model(config, describe_modalities(config, dataset), 1);
  const std::vector<std::int64_t> first(split.train.begin(), split.train.begin() + 4);
  const auto out =
      model.forward(unit_input(config, dataset, gather(dataset, batch_fields(config), first)),
                    Mode::training, {});
  EXPECT_TRUE(std::isfinite(out.losses.total.value().item()));
  EXPECT_EQ(out.losses.invariance.size(), config.data.modalities.size());
}

INSTANTIATE_TEST_SUITE_P(Own, ShippedConfig,
                         ::testing::Values("mosi_utt_a", "mosi_utt_b", "mosi_utt_words",
                                           "mosi_utt_ood", "mosi_mini", "mustard_text",
                                           "mosi_mini_crossmodal", "mustard_text_crossmodal",
                                           "synthetic"));

}  // namespace
}  // namespace cmir
