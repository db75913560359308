#include "core/philox.h"

#include <gtest/gtest.h>

#include <set>

namespace cmir {
namespace {

using Words = std::array<std::uint32_t, 4>;

TEST(Philox, GivesTheKnownAnswersOfRandom123) {
  // kat_vectors of the authors' library, philox4x32 with 10 rounds.
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, 0, 0),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, kOnes, kOnes),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomStream, PlacesSeedStepSiteAndBlockInKeyAndCounter) {
  const RandomStream stream{.seed = 0x299f31d0a4093822, .step = 0x03707344, .site = 0x13198a2e};
  EXPECT_EQ(stream.words(0x85a308d3243f6a88),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
  for (std::uint64_t element : {0, 1, 2, 3, 4, 9}) {
    EXPECT_EQ(stream.word(element), stream.words(element / 4)[element % 4]);
  }
}

TEST(RandomStream, SeedsStepsAndSitesDiffer) {
  std::set<std::uint32_t> words;
  for (std::uint64_t seed : {1ULL, 2ULL, 1ULL << 32}) {
    for (std::uint32_t step : {0U, 1U}) {
      for (std::uint32_t site : {0U, 1U}) words.insert(RandomStream{seed, step, site}.word(0));
    }
  }
  EXPECT_EQ(words.size(), 12U);
}

TEST(RandomStream, UniformsAreInHalfOpenUnitIntervalWithTheRightMoments) {
  EXPECT_EQ(RandomStream::uniform_of(0), 0.0F);
  EXPECT_LT(RandomStream::uniform_of(0xffffffff), 1.0F);
  const RandomStream stream{.seed = 42};
  constexpr int kCount = 200000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kCount; ++i) {
    const double u = stream.uniform(i);
    sum += u;
    squares += u * u;
  }
  // Five standard errors: sd of u is sqrt(1/12), of u^2 sqrt(4/45).
  EXPECT_NEAR(sum / kCount, 0.5, 5 * std::sqrt(1.0 / 12 / kCount));
  EXPECT_NEAR(squares / kCount, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / kCount));
}

TEST(RandomStream, NormalsAreFiniteWithTheRightMoments) {
  // The extreme words: the logarithm's argument is in (0, 1].
  EXPECT_TRUE(std::isfinite(RandomStream::normal_pair(0, 0)[0]));
  EXPECT_EQ(RandomStream::normal_pair(0xffffffff, 0)[0], 0.0F);
  const RandomStream stream{.seed = 7, .step = 3, .site = 1};
  constexpr int kCount = 200000;
  std::array<double, 5> moments{};
  double neighbours = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = stream.normal(i);
    double power = 1;
    for (double& moment : moments) moment += power / kCount, power *= x;
    neighbours += x * stream.normal(i + 1) / kCount;
  }
  const double error = 5 / std::sqrt(kCount);
  EXPECT_NEAR(moments[1], 0, error);
  EXPECT_NEAR(moments[2], 1, error * std::sqrt(2.0));
  EXPECT_NEAR(moments[3], 0, error * std::sqrt(15.0));
  EXPECT_NEAR(moments[4], 3, error * std::sqrt(96.0));
  EXPECT_NEAR(neighbours, 0, error);  // of the two halves of a Box-Muller pair, too
}

}  // namespace
}  // namespace cmir
