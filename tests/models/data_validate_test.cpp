#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "data_test.h"

namespace cmir::test {
namespace {

using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(Structure, NamesEveryFaultWithItsSample) {
  EXPECT_THAT(structural_faults(tiny_dataset()), IsEmpty());
  const auto faults_of = [](const std::function<void(Dataset&)>& spoil) {
    Dataset d = tiny_dataset();
    spoil(d);
    return structural_faults(d);
  };
  EXPECT_THAT(structural_faults({}), Contains(HasSubstr("no samples")));
  EXPECT_THAT(faults_of([](auto& d) {
                d.features["text"].values = Tensor::zeros({5, 2});
              }),
              Contains(HasSubstr("feature.text must be f32 of rank 2 with 6 rows, got f32[5, 2]")));
  EXPECT_THAT(faults_of([](auto& d) {
                d.features["text"].values = Tensor::zeros({6, 2}, DType::f64);
              }),
              Contains(HasSubstr("must be f32")));
  EXPECT_THAT(faults_of([](auto& d) { d.features["text"].values = Tensor(); }),
              Contains(HasSubstr("got nothing")));
  EXPECT_THAT(faults_of([](auto& d) {
                d.features["text"].values = Tensor::zeros({6, 0});
              }),
              Contains(HasSubstr("no columns")));
  const auto with_offsets = [&](std::initializer_list<std::int64_t> offsets) {
    return faults_of([&](auto& d) {
      d.features["audio"].offsets =
          Tensor::from(offsets, {static_cast<std::int64_t>(offsets.size())});
    });
  };
  EXPECT_THAT(with_offsets({0, 2, 3, 3, 6, 8}),
              Contains(HasSubstr("feature.audio.offsets must be i64 of rank 1 with 7 rows")));
  EXPECT_THAT(with_offsets({1, 2, 3, 3, 6, 8, 9}), Contains(HasSubstr("must begin with 0, got 1")));
  EXPECT_THAT(with_offsets({0, 2, 3, 3, 6, 8, 10}),
              Contains(HasSubstr("ends with 10, but there are 9 rows")));
  EXPECT_THAT(with_offsets({0, 2, 3, 99, 6, 8, 9}),
              Contains(HasSubstr("decreases from 99 to 6 at sample b_2")));
  EXPECT_THAT(with_offsets({0, 2, 3, -9, 6, 8, 9}),
              Contains(HasSubstr("decreases from 3 to -9 at sample b_1")));
  EXPECT_THAT(faults_of([](auto& d) {
                d.tokens["words"].ids.template mutable_data<std::int32_t>()[4] = 3;
              }),
              Contains(HasSubstr("tokens.words holds 3 at row 4, outside the vocabulary of 3")));
  EXPECT_THAT(faults_of([](auto& d) {
                d.tokens["words"].ids.template mutable_data<std::int32_t>()[4] = -1;
              }),
              Contains(HasSubstr("holds -1")));
  EXPECT_THAT(faults_of([](auto& d) { d.tokens["text"] = d.tokens["words"]; }),
              Contains(HasSubstr("\"text\" names both")));
  EXPECT_THAT(faults_of([](auto& d) {
                d.embeddings["glove"] = Tensor::zeros({2, 2});
              }),
              Contains(HasSubstr("embedding.glove")));
  EXPECT_THAT(faults_of([](auto& d) { d.labels["bin"].values = Tensor::zeros({6}); }),
              Contains(HasSubstr("label.bin must be i32")));
  EXPECT_THAT(
      faults_of([](auto& d) { d.splits["main"].template mutable_data<std::int32_t>()[5] = 4; }),
      Contains(HasSubstr("split.main is 4 at sample c_2, outside -1..3")));
  EXPECT_THAT(
      faults_of([](auto& d) { d.folds["five"].template mutable_data<std::int32_t>()[0] = -1; }),
      Contains(HasSubstr("fold.five")));
  EXPECT_THAT(faults_of([](auto& d) { d.group.template mutable_data<std::int32_t>()[1] = 3; }),
              Contains(HasSubstr("group is 3 at sample a_2")));
  EXPECT_THAT(faults_of([](auto& d) { d.texts.pop_back(); }),
              Contains(HasSubstr("5 texts for 6 samples")));
  EXPECT_EQ(faults_of([](auto& d) {
              d.splits["main"].fill(9);
              d.folds["five"].fill(-5);
              d.group.fill(7);
              d.tokens["words"].ids.fill(9);
            }).size(),
            20U)
      << "a hopeless data set does not fill the screen";
}

TEST(Validate, AcceptsASoundDatasetAndNotesWhatIsOdd) {
  Dataset d = tiny_dataset();
  const ValidationReport report = validate(d);
  EXPECT_TRUE(report.ok()) << report.to_string();
  EXPECT_EQ(report.features.at("audio").absent, 1);
  EXPECT_EQ(report.features.at("audio").shortest, 1);
  EXPECT_EQ(report.features.at("audio").longest, 3);
  EXPECT_THAT(report.warnings, Contains("feature audio: 1 samples have no steps (b_1)"));
  EXPECT_THAT(
      report.warnings,
      Contains("split main: 2 of 3 groups (videos or speakers) are in more than one part (b, c)"));
  EXPECT_EQ(report.to_json()["features"]["audio"]["absent"], 1);
  EXPECT_THAT(report.to_string(), HasSubstr("warning: feature audio"));
  EXPECT_NO_THROW(report.require_ok("tiny"));
}

TEST(Validate, CountsNonFiniteValuesAndReplacesThemOnRequest) {
  Dataset d = tiny_dataset();
  float* audio = d.features["audio"].values.mutable_data<float>();
  audio[0] = kNan;
  audio[1] = -kInf;
  audio[26] = kInf;
  const Tensor before = d.features["audio"].values;
  const ValidationReport rejected = validate(d);
  EXPECT_THAT(rejected.errors,
              ElementsAre(AllOf(
                  HasSubstr("feature audio: 1 NaN and 2 infinite values, in 2 samples (a_1, c_2)"),
                  HasSubstr("replaced by 0"))));
  EXPECT_TRUE(d.features["audio"].values.shares_storage(before));
  EXPECT_THAT(error_of([&] { rejected.require_ok("tiny"); }), HasSubstr("tiny: feature audio"));

  const ValidationReport replaced = validate(d, NonFinite::replace);
  EXPECT_TRUE(replaced.ok());
  EXPECT_THAT(replaced.warnings, Contains(HasSubstr(": replaced by 0")));
  EXPECT_EQ(replaced.features.at("audio").infinite, 2);
  const auto values = d.features["audio"].values.to_vector();
  EXPECT_EQ(values[0], 0);
  EXPECT_EQ(values[1], 0);
  EXPECT_EQ(values[2], 2);
  EXPECT_EQ(values[26], 0);
  EXPECT_TRUE(std::isnan(before.data<float>()[0]))
      << "the original, perhaps a mapped file, stays as it is";
}

TEST(Validate, FindsLabelsOutsideTheRange) {
  Dataset d = tiny_dataset();
  d.labels["reg"].values.mutable_data<float>()[1] = 3.5F;
  d.labels["reg"].values.mutable_data<float>()[4] = kNan;
  d.labels["bin"].values.mutable_data<std::int32_t>()[5] = 2;
  EXPECT_THAT(
      validate(d).errors,
      ElementsAre("label bin: 1 values outside 0..1, the first 2 (c_2); mend them or widen the "
                  "label's range",
                  "label reg: 2 values outside -3..3, the first 3.5 (a_2, c_1); mend them or widen "
                  "the label's range"));
}

TEST(Validate, FindsRepeatedIdsAndSamplesWithoutAnyModality) {
  Dataset d = tiny_dataset();
  d.ids[4] = "a_1";
  EXPECT_THAT(validate(d).errors, ElementsAre("1 ids occur more than once (a_1)"));
  d = tiny_dataset();
  d.features["text"].values.mutable_data<float>()[4] = 0;
  d.features["text"].values.mutable_data<float>()[5] = 0;
  EXPECT_TRUE(validate(d).ok()) << "b_1 still has words";
  d.tokens.clear();
  EXPECT_THAT(validate(d).errors,
              ElementsAre("1 samples have no modality at all (b_1); leave them out"));
}

TEST(Validate, NotesEmptyPartsConstantColumnsAndTokenlessSamples) {
  Dataset d = tiny_dataset();
  d.splits["main"].fill(kTrain);
  for (int s = 0; s < 6; ++s) d.features["text"].values.mutable_data<float>()[2 * s] = 7;
  d.tokens["words"].offsets.mutable_data<std::int64_t>()[1] = 0;
  const auto report = validate(d);
  EXPECT_THAT(report.warnings, Contains("split main: its part \"test\" is empty"));
  EXPECT_THAT(report.warnings, Contains("feature text: 1 of 2 columns are constant"));
  EXPECT_THAT(report.warnings, Contains("tokens words: 1 samples have none (a_1)"));
}

TEST(Validate, FindsWhatTheReadmeSaysOfMosi) {
  if (real_data().empty()) GTEST_SKIP() << "the real data is not here";
  Dataset d = open_dataset(real_data() + "/mosi_utt");
  const auto report = validate(d);
  EXPECT_TRUE(report.ok()) << report.to_string();
  EXPECT_EQ(report.features.at("video_3dcnn").constant_columns, 32);
  EXPECT_THAT(report.warnings, Contains(HasSubstr("split ood")));
  EXPECT_THAT(report.warnings, testing::Not(Contains(HasSubstr("split bclstm"))));
  EXPECT_THAT(report.warnings, testing::Not(Contains(HasSubstr("split mmsa"))));
}

// ---- splits

/// `n` samples in groups of four; the last group is the test part.
Dataset make_groups(std::int64_t n) {
  Dataset d;
  d.group = Tensor::empty({n}, DType::i32);
  d.splits["main"] = Tensor::empty({n}, DType::i32);
  for (std::int64_t s = 0; s < n; ++s) {
    d.ids.push_back(std::to_string(s));
    d.group.mutable_data<std::int32_t>()[s] = static_cast<std::int32_t>(s / 4);
    d.splits["main"].mutable_data<std::int32_t>()[s] = s < n - 4 ? kTrain : kTest;
  }
  return d;
}

TEST(Split, ListsThePartsOfASplit) {
  const Dataset d = tiny_dataset();
  for (const char* name : {"main", "split_main"}) {
    const Split split = resolve_split(d, name);
    EXPECT_THAT(split.train, ElementsAre(0, 1));
    EXPECT_THAT(split.part("valid"), ElementsAre(2));
    EXPECT_THAT(split.part("test"), ElementsAre(3, 4));
    EXPECT_THAT(split.test_ood, ElementsAre(5));
  }
  EXPECT_THAT(resolve_split(d, "main", {.merge_validation = true}).train, ElementsAre(0, 1, 2));
}

TEST(Split, TakesOneFoldAsTest) {
  const Split split = resolve_split(tiny_dataset(), "fold_five", {.test_fold = 1});
  EXPECT_THAT(split.test, ElementsAre(1, 4));
  EXPECT_THAT(split.train, ElementsAre(0, 2, 3, 5));
  EXPECT_THAT(error_of([] { resolve_split(tiny_dataset(), "five", {.test_fold = 3}); }),
              HasSubstr("has folds 0..2, got test fold 3"));
}

TEST(Split, CutsValidationInWholeGroupsBySeed) {
  Dataset d = make_groups(40);
  std::set<std::vector<std::int64_t>> seen;
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const SplitOptions options{.validation_fraction = 0.2, .seed = seed};
    const Split split = resolve_split(d, "main", options);
    EXPECT_EQ(split.valid.size(), 8U);
    EXPECT_EQ(split.train.size() + split.valid.size(), 36U);
    EXPECT_EQ(resolve_split(d, "", options).valid, split.valid);
    for (const auto v : split.valid) {
      for (const auto t : split.train)
        EXPECT_NE(d.group.data<std::int32_t>()[v], d.group.data<std::int32_t>()[t]);
    }
    seen.insert(split.valid);
  }
  EXPECT_GT(seen.size(), 3U) << "the seed chooses";
  d.group = Tensor();
  EXPECT_EQ(resolve_split(d, "main", {.validation_fraction = 0.25}).valid.size(), 9U);
}

TEST(Split, SaysWhatIsMissing) {
  Dataset d = tiny_dataset();
  EXPECT_THAT(error_of([&] { resolve_split(d, "mian"); }),
              HasSubstr("has no split or fold \"mian\"; it has main, five"));
  EXPECT_THAT(error_of([&] { resolve_split(d, ""); }),
              HasSubstr("needs a split to be named; it has main, five"));
  EXPECT_THAT(error_of([&] { resolve_split(d, "main", {.validation_fraction = 0.1}); }),
              HasSubstr("merge it into train first"));
  EXPECT_THAT(error_of([&] { resolve_split(d, "main", {.validation_fraction = 1.5}); }),
              HasSubstr("must be in [0, 1), got 1.5"));
  EXPECT_THAT(error_of([&] { resolve_split(d, "main").part("dev"); }),
              HasSubstr("no part \"dev\""));
  EXPECT_THAT(error_of([&] { resolve_split(d, "five").part("valid"); }),
              HasSubstr("part \"valid\" is empty; choose another split or cut"));
  d.splits["main"].fill(kTest);
  EXPECT_THAT(error_of([&] { resolve_split(d, "main"); }),
              HasSubstr("split \"main\" leaves its part \"train\" empty"));
  d.splits["main"].fill(kTrain);
  EXPECT_THAT(error_of([&] { resolve_split(d, "main"); }),
              HasSubstr("leaves its part \"test\" empty"));
}

TEST(Dataset, LookUpNamesWhatThereIs) {
  const Dataset d = tiny_dataset();
  EXPECT_EQ(d.label("label_reg").outputs(), 1);
  EXPECT_EQ(d.embedding("emb_glove").size(0), 3);
  EXPECT_THAT(error_of([&] { d.feature("video"); }),
              HasSubstr("tiny: has no feature \"video\"; it has audio, text"));
  EXPECT_THAT(error_of([&] { d.label("acc7"); }),
              HasSubstr("has no label \"acc7\"; it has bin, reg"));
  EXPECT_THAT(error_of([&] { Dataset().token("x"); }), HasSubstr("it has none"));
}

}  // namespace
}  // namespace cmir::test
