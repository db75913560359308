#include "models/data/batch.h"

#include <atomic>
#include <chrono>
#include <numeric>
#include <set>
#include <stdexcept>

#include "data_test.h"
#include "models/data/permutation.h"
#include "models/data/standardise.h"

namespace cmir::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Indices = std::vector<std::int64_t>;

// ---- gather

TEST(Gather, PacksTheRowsOfTheSamplesInOrder) {
  const Dataset d = tiny_dataset();
  const Batch batch = gather(d, {{"text", "audio", "words"}, "bin"}, Indices{4, 2, 0});
  EXPECT_EQ(batch.size(), 3);
  EXPECT_THAT(batch.inputs.at("text").x.to_vector(), ElementsAre(5, 50, 3, 30, 1, 10));
  EXPECT_FALSE(batch.inputs.at("text").offsets.defined());
  EXPECT_THAT(batch.inputs.at("audio").offsets.to_vector(), ElementsAre(0, 2, 2, 4))
      << "b_1 has no audio";
  EXPECT_THAT(batch.inputs.at("audio").x.to_vector(),
              ElementsAre(18, 19, 20, 21, 22, 23, 0, 1, 2, 3, 4, 5));
  EXPECT_EQ(batch.inputs.at("words").x.dtype(), DType::i32);
  EXPECT_THAT(batch.inputs.at("words").x.to_vector(), ElementsAre(1, 1, 1));
  EXPECT_THAT(batch.inputs.at("words").offsets.to_vector(), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(batch.label.to_vector(), ElementsAre(1, 1, 0));
  EXPECT_EQ(batch.label.dtype(), DType::f32);
  EXPECT_EQ(batch.label_index.dtype(), DType::i32);
}

TEST(Gather, ServesOneSampleWithoutRowsAndNoLabel) {
  const Dataset d = tiny_dataset();
  const Batch batch = gather(d, {{"audio"}, ""}, Indices{2});
  EXPECT_EQ(batch.inputs.at("audio").x.shape(), (Shape{0, 3}));
  EXPECT_THAT(batch.inputs.at("audio").offsets.to_vector(), ElementsAre(0, 0));
  EXPECT_FALSE(batch.label.defined());
  EXPECT_FALSE(gather(d, {{"audio"}, "reg"}, Indices{2}).label_index.defined());
}

TEST(Gather, RefusesWhatIsNotThere) {
  const Dataset d = tiny_dataset();
  EXPECT_THAT(error_of([&] {
                gather(d, {{"video"}, ""}, Indices{0});
              }),
              HasSubstr("has no feature \"video\"; it has audio, text"));
  EXPECT_THAT(error_of([&] {
                gather(d, {{"text"}, "x"}, Indices{0});
              }),
              HasSubstr("has no label \"x\""));
  EXPECT_THAT(error_of([&] {
                gather(d, {{"text"}, ""}, Indices{6});
              }),
              HasSubstr("sample 6 is outside the 6 samples"));
  EXPECT_THAT(error_of([&] {
                sample_lengths(d, {{"text"}, ""}, Indices{-1});
              }),
              HasSubstr("sample -1"));
}

TEST(Gather, LengthsAddTheRaggedInputs) {
  EXPECT_EQ(sample_lengths(tiny_dataset(), {{"text", "audio", "words"}, ""}, Indices{0, 2, 3}),
            (Indices{3, 1, 5}));
}

// ---- sampler

Indices range(std::int64_t n, std::int64_t first = 0) {
  Indices list(static_cast<std::size_t>(n));
  std::iota(list.begin(), list.end(), first);
  return list;
}

Indices whole_epoch(const BatchSampler& sampler, std::uint32_t epoch) {
  Indices all;
  for (std::int64_t b = 0; b < sampler.batches_per_epoch(); ++b) {
    const Indices batch = sampler.batch(epoch, b);
    all.insert(all.end(), batch.begin(), batch.end());
  }
  return all;
}

TEST(Permutation, ReachesEveryOrderOfThreeEquallyOften) {
  std::map<Indices, int> counts;
  for (std::uint32_t i = 0; i < 6000; ++i) ++counts[permutation(3, {7, i, 1})];
  EXPECT_EQ(counts.size(), 6U);
  for (const auto& [order, count] : counts)
    EXPECT_NEAR(count, 1000, 4 * std::sqrt(6000 * (1.0 / 6) * (5.0 / 6)));
  EXPECT_TRUE(permutation(0, {}).empty());
}

TEST(BatchSampler, GivesEverySampleOnceAndAnotherOrderPerEpochAndSeed) {
  const SamplerOptions options{.batch_size = 7, .seed = 3};
  const BatchSampler sampler(range(40, 100), options);
  EXPECT_EQ(sampler.batches_per_epoch(), 6);
  EXPECT_EQ(sampler.batch(0, 5).size(), 5U);
  Indices sorted = whole_epoch(sampler, 2);
  EXPECT_NE(sorted, whole_epoch(sampler, 3));
  EXPECT_NE(sorted, whole_epoch(BatchSampler(range(40, 100), {.batch_size = 7, .seed = 4}), 2));
  std::ranges::sort(sorted);
  EXPECT_EQ(sorted, range(40, 100));
  EXPECT_EQ(whole_epoch(BatchSampler(range(40), {.batch_size = 7, .shuffle = false}), 5),
            range(40));
}

TEST(BatchSampler, IsAPureFunctionOfSeedEpochAndPosition) {
  const Dataset d = tiny_dataset();
  const Indices lengths = {9, 3, 5, 1, 8, 2, 7, 6, 4, 0, 3};
  const SamplerOptions options{.batch_size = 2, .bucket_batches = 2, .seed = 11};
  const BatchSampler straight(range(11), options, lengths);
  std::vector<Indices> expected;
  for (std::uint32_t epoch = 0; epoch < 4; ++epoch) {
    for (std::int64_t b = 0; b < straight.batches_per_epoch(); ++b)
      expected.push_back(straight.batch(epoch, b));
  }
  const BatchSampler resumed(range(11), options, lengths);
  for (std::size_t i = expected.size(); i-- > 0;)
    EXPECT_EQ(resumed.batch(static_cast<std::uint32_t>(i / 6), static_cast<std::int64_t>(i % 6)),
              expected[i]);
}

TEST(BatchSampler, BucketsAlikeLengthsAndKeepsTheIncompleteBatchLast) {
  Indices lengths;
  for (std::int64_t i = 0; i < 1003; ++i) lengths.push_back(RandomStream{5, 0, 0}.word(i) % 100);
  const auto spread = [&](const BatchSampler& sampler) {  // steps that padding would add
    std::int64_t sum = 0;
    for (std::int64_t b = 0; b < sampler.batches_per_epoch(); ++b) {
      std::int64_t longest = 0;
      const Indices batch = sampler.batch(1, b);
      for (const auto s : batch) longest = std::max(longest, lengths[s]);
      for (const auto s : batch) sum += longest - lengths[s];
    }
    return sum;
  };
  const BatchSampler plain(range(1003), {.batch_size = 10}, lengths);
  const BatchSampler bucketed(range(1003), {.batch_size = 10, .bucket_batches = 20}, lengths);
  EXPECT_LT(10 * spread(bucketed), spread(plain));
  EXPECT_EQ(bucketed.batch(1, 100).size(), 3U);
  Indices all = whole_epoch(bucketed, 1);
  std::ranges::sort(all);
  EXPECT_EQ(all, range(1003));
  std::vector<std::int64_t> firsts;  // long and short batches come in no order
  for (std::int64_t b = 0; b < 100; ++b) firsts.push_back(lengths[bucketed.batch(1, b)[0]]);
  EXPECT_FALSE(std::ranges::is_sorted(firsts));
}

TEST(BatchSampler, RefusesWhatMakesNoBatch) {
  EXPECT_THAT(error_of([] { BatchSampler({}, {}); }), HasSubstr("the split part is empty"));
  EXPECT_THAT(error_of([] { BatchSampler(range(3), {.batch_size = 0}); }),
              HasSubstr("at least 1, got 0"));
  EXPECT_THAT(error_of([] { BatchSampler(range(3), {.drop_last = true}); }),
              HasSubstr("3 samples make no full batch of 48"));
  EXPECT_THAT(error_of([] { BatchSampler(range(3), {.bucket_batches = 2}); }),
              HasSubstr("0 lengths for 3 samples"));
  EXPECT_THAT(error_of([] { BatchSampler(range(3), {.bucket_batches = -1}); }),
              HasSubstr("must not be negative"));
  EXPECT_THAT(error_of([] { BatchSampler(range(3), {}).batch(0, 1); }),
              HasSubstr("batch 1 is outside the 1"));
  EXPECT_EQ(BatchSampler(range(1), {}).batch(0, 0), range(1));
  EXPECT_EQ(whole_epoch(BatchSampler(range(9), {.batch_size = 4, .drop_last = true}), 0).size(),
            8U);
}

// ---- prefetcher

Batch numbered(std::int64_t position) { return Batch{.indices = {position}}; }

TEST(Prefetcher, KeepsTheOrderAndEnds) {
  for (const std::size_t depth : {0U, 1U, 3U, 100U}) {
    Prefetcher prefetcher(numbered, 3, 20, depth);
    for (std::int64_t position = 3; position < 20; ++position) {
      const auto batch = prefetcher.next();
      ASSERT_TRUE(batch);
      EXPECT_EQ(batch->indices[0], position);
    }
    EXPECT_FALSE(prefetcher.next());
    EXPECT_FALSE(prefetcher.next());
  }
  EXPECT_FALSE(Prefetcher(numbered, 5, 5).next());
}

TEST(Prefetcher, StaysWithinItsDepth) {
  std::atomic<std::int64_t> made = 0;
  Prefetcher prefetcher([&](std::int64_t position) { return ++made, numbered(position); }, 0, 1000,
                        2);
  ASSERT_TRUE(prefetcher.next());
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_LE(made, 4) << "one taken, two ready, one waiting for room";
}

TEST(Prefetcher, PassesAnExceptionOnAfterTheBatchesBeforeIt) {
  Prefetcher prefetcher(
      [](std::int64_t position) {
        return position == 2 ? throw std::runtime_error("disk gone") : numbered(position);
      },
      0, 9);
  EXPECT_EQ(prefetcher.next()->indices[0], 0);
  EXPECT_EQ(prefetcher.next()->indices[0], 1);
  EXPECT_THROW(prefetcher.next(), std::runtime_error);
  EXPECT_THROW(prefetcher.next(), std::runtime_error);
}

TEST(Prefetcher, StopsWhenLeftEarly) {
  for (int i = 0; i < 50; ++i) {
    Prefetcher prefetcher(numbered, 0, 1'000'000'000);
    if (i % 2 == 0) {
      ASSERT_TRUE(prefetcher.next());
    }
  }
}

TEST(Prefetcher, GathersTheSamplersBatches) {
  const Dataset d = tiny_dataset();
  const BatchFields fields{{"text", "audio"}, "reg"};
  const BatchSampler sampler(range(6), {.batch_size = 4, .seed = 1});
  Prefetcher prefetcher(
      [&, copy = sampler](std::int64_t b) { return gather(d, fields, copy.batch(2, b)); }, 0,
      sampler.batches_per_epoch());
  for (std::int64_t b = 0; b < 2; ++b) {
    const Batch expected = gather(d, fields, sampler.batch(2, b));
    const auto batch = prefetcher.next();
    EXPECT_EQ(batch->indices, expected.indices);
    EXPECT_TRUE(same_bits(batch->inputs.at("audio").x, expected.inputs.at("audio").x));
    EXPECT_TRUE(same_bits(batch->label, expected.label));
  }
  EXPECT_FALSE(prefetcher.next());
}

// ---- standardisation

TEST(Standardiser, ScalesByTheTrainingRowsOfDenseAndRaggedFeatures) {
  Dataset d = tiny_dataset();
  const Tensor original = d.features["audio"].values;
  const Indices train{0, 1, 3};
  Standardiser::fit(d, train).apply(d);
  EXPECT_EQ(original.data<float>()[0], 0) << "the source stays";
  // text column 0 over samples 0, 1, 3: 1, 2, 4; audio column 1 over rows 0, 1, 2, 3, 4, 5: 1, 4,
  // 7, 10, 13, 16.
  const double text_mean = 7.0 / 3, text_deviation = std::sqrt(21.0 / 3 - text_mean * text_mean);
  for (std::int64_t s = 0; s < 6; ++s)
    EXPECT_NEAR(d.features["text"].values.to_vector()[2 * s],
                (static_cast<double>(s) + 1 - text_mean) / text_deviation, 1e-6);
  const double audio_mean = 8.5,
               audio_deviation = std::sqrt((1.5 * 1.5 + 4.5 * 4.5 + 7.5 * 7.5) / 3);
  for (std::int64_t r = 0; r < 9; ++r)
    EXPECT_NEAR(d.features["audio"].values.to_vector()[3 * r + 1],
                (3.0 * static_cast<double>(r) + 1 - audio_mean) / audio_deviation, 1e-6);
}

TEST(Standardiser, TheStoredFormScalesWithTheSameBits) {
  Dataset a = tiny_dataset(), b = tiny_dataset();
  const auto fitted = Standardiser::fit(a, range(4), std::vector<std::string>{"audio"});
  auto stored = fitted.to_tensors();
  EXPECT_EQ(stored.size(), 2U);
  EXPECT_TRUE(stored.contains("standardise.audio.shift"));
  stored["encoder.weight"] = Tensor::zeros({2});
  fitted.apply(a);
  Standardiser::from_tensors(stored).apply(b);
  EXPECT_TRUE(same_bits(a.features["audio"].values, b.features["audio"].values));
  EXPECT_TRUE(same_bits(b.features["text"].values, tiny_dataset().features["text"].values))
      << "not fitted";
  EXPECT_TRUE(Standardiser::from_tensors({}).empty());
}

TEST(Standardiser, MinMaxMapsTheTrainingRowsToTheUnitInterval) {
  Dataset d = tiny_dataset();
  Standardiser::fit(d, Indices{1, 4}, {}, Scaling::min_max).apply(d);
  EXPECT_THAT(d.features["text"].values.slice(1, 5).to_vector(),
              testing::Pointwise(testing::DoubleNear(1e-6),
                                 {0., 0., 1 / 3., 1 / 3., 2 / 3., 2 / 3., 1., 1.}));
}

TEST(Standardiser, LeavesConstantColumnsAtZeroAndAbsentSamplesAlone) {
  Dataset d = tiny_dataset();
  float* text = d.features["text"].values.mutable_data<float>();
  for (int s = 0; s < 6; ++s) text[2 * s] = 376.25F;
  text[4] = text[5] = 0;  // b_1 has no text
  for (int r = 0; r < 9; ++r)
    d.features["audio"].values.mutable_data<float>()[3 * r] = r % 2 == 0 ? 1e-45F : 0;
  const Indices all = range(6);
  Standardiser::fit(d, all).apply(d);
  for (int s = 0; s < 6; ++s) EXPECT_EQ(d.features["text"].values.to_vector()[2 * s], 0);
  EXPECT_EQ(d.features["text"].values.to_vector()[5], 0);
  EXPECT_NEAR(d.features["text"].values.to_vector()[1],
              (10 - 36) / std::sqrt((26. * 26 + 16 * 16 + 4 * 4 + 14 * 14 + 24 * 24) / 5), 1e-6);
  EXPECT_NO_THROW(require_finite(d.features["audio"].values, "audio"))
      << "a spread that underflows";
}

TEST(Standardiser, RefusesBadInput) {
  Dataset d = tiny_dataset();
  const auto fitted = Standardiser::fit(d, range(6));
  EXPECT_THAT(error_of([&] { Standardiser::fit(d, Indices{9}); }),
              HasSubstr("sample 9 is outside"));
  EXPECT_THAT(error_of([&] { Standardiser::fit(d, Indices{2}); }),
              HasSubstr("feature audio has no training rows"));
  EXPECT_THAT(error_of([&] { Standardiser::fit(d, range(6), std::vector<std::string>{"video"}); }),
              HasSubstr("has no feature \"video\""));
  d.features["text"].values.mutable_data<float>()[3] = NAN;
  EXPECT_THAT(error_of([&] { Standardiser::fit(d, range(6)); }),
              HasSubstr("feature text has a non-finite value in column 1 of sample a_2"));
  d.features["text"].values = Tensor::zeros({6, 5});
  EXPECT_THAT(error_of([&] { fitted.apply(d); }),
              HasSubstr("fitted to feature text of width 2; \"tiny\" has width 5"));
  d.features.erase("text");
  EXPECT_THAT(error_of([&] { fitted.apply(d); }), HasSubstr("no such feature"));
  auto stored = fitted.to_tensors();
  stored["standardise.text.scale"] = Tensor::zeros({2});
  EXPECT_THAT(error_of([&] { Standardiser::from_tensors(stored); }),
              HasSubstr("standardise.text.scale must be positive"));
  stored["standardise.text.scale"] = Tensor::zeros({3});
  EXPECT_THAT(error_of([&] { Standardiser::from_tensors(stored); }),
              HasSubstr("must both be there as f32 [width]"));
}

}  // namespace
}  // namespace cmir::test
