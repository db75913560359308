// kernels/cuda/random.cuh against core/philox.h and exact arithmetic.
#include "kernels/cuda/random.cuh"

#include "tests/kernels/schedules_test.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

__global__ void random_kernel(RandomStream stream, std::uint64_t first_block, std::uint32_t* words,
                              float* normals) {
  store_vector(words + 4 * threadIdx.x, random_words(stream, first_block + threadIdx.x));
  store_vector(normals + 4 * threadIdx.x, random_normals(stream, first_block + threadIdx.x));
}

TEST(DeviceRandom, GivesTheWordsAndNormalsOfTheStream) {
  const RandomStream stream{.seed = 0x123456789ABCDEF0U, .step = 3, .site = 5};
  constexpr std::uint64_t blocks = 1024;
  for (const std::uint64_t first : {std::uint64_t{0}, (std::uint64_t{1} << 32) - 500}) {
    kernels::testing::Guarded<float> normals(4 * blocks);
    std::vector<std::uint32_t> words(4 * blocks);
    launch(random_kernel, {.grid = dim3(1), .block = dim3(blocks)}, stream, first, words.data(),
           normals.data());
    for (std::uint64_t i = 0; i < 4 * blocks; ++i) {
      const std::uint64_t element = 4 * first + i;
      ASSERT_EQ(words[i], stream.word(element)) << element;
      ASSERT_EQ(random_word(stream, element), words[i]) << element;
      // The pair's radius bounds what the rounding of an angle does to a normal.
      const double u = ((words[i / 2 * 2] >> 8) + 1.0) * 0x1p-24;
      const double radius = std::sqrt(-2 * std::log(u));
      const double angle = 8 * std::atan(1.0) * RandomStream::uniform_of(words[i / 2 * 2 + 1]);
      const double exact = radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle));
      ASSERT_NEAR(normals[static_cast<std::int64_t>(i)], exact, 4e-7 * std::max(1.0, radius));
    }
  }
}

TEST(DeviceRandom, TurnsAreAccurateAtTheQuarters) {
  for (int eighth = 0; eighth < 8; ++eighth) {
    for (const int step : {-1, 0, 1}) {
      const int numerator = (eighth << 21) + step;
      if (numerator < 0) continue;
      const float u = static_cast<float>(numerator) * 0x1p-24F;
      const double angle = 8 * std::atan(1.0) * u;
      const float2 turn = cos_sin_turn(u);
      EXPECT_NEAR(turn.x, std::cos(angle), 2e-7) << numerator;
      EXPECT_NEAR(turn.y, std::sin(angle), 2e-7) << numerator;
    }
  }
}

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
