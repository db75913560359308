#include "kernels/loss/noise_variants.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

const RandomStream kStream{.seed = 0x9E3779B97F4A7C15, .step = 17, .site = 3};

template <class T>
class NoiseVariantsTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(NoiseVariantsTest, Scalars);

/// Counts that are multiples of a Philox block's four and all remainders; about a device block's
/// 1024. `shift` misaligns the arrays.
TYPED_TEST(NoiseVariantsTest, BlocksAreXPlusTheStreamsNoise) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const std::int64_t count : {1, 2, 3, 4, 5, 6, 7, 1023, 1024, 1025, 2052}) {
      for (const std::int64_t shift : {0, 1}) {
        const std::int64_t environments = 3;
        Guarded<T> x(normals(count + shift, 5)), y((environments + 1) * count + shift);
        std::vector<double> expected(y.span().size(), std::nan(""));
        for (std::int64_t i = 0; i < count; ++i) {
          expected[shift + i] = x[shift + i];
          for (std::int64_t e = 1; e <= environments; ++e) {
            expected[shift + e * count + i] =
                x[shift + i] + 0.3 * e * kStream.normal((e - 1) * count + i);
          }
        }
        run(test_device(), NoiseVariantsForward<T>{x.data() + shift, y.data() + shift, count,
                                                   environments, 0.3, kStream});
        // The noise itself is f32 for either T, within 1e-6 of the larger of 1 and its radius (<
        // 6).
        expect_close(y, expected, (1 + 0.3 * environments * 6) * 1e-6,
                     1 / std::numeric_limits<T>::epsilon(),
                     fmt::format("count {} shift {}", count, shift));
      }
    }
  });
}

TYPED_TEST(NoiseVariantsTest, GradientAddsTheBlocks) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const std::int64_t count : {0, 1, 3, 4, 7, 1023, 1025, 2052}) {
      for (const std::int64_t shift : {0, 1}) {
        const std::int64_t blocks = 4;
        Guarded<T> dy(normals(blocks * count + shift, 6)), dx(count);
        std::vector<double> expected(count);
        for (std::int64_t i = 0; i < blocks * count; ++i) expected[i % count] += dy[shift + i];
        run(test_device(), NoiseVariantsBackward<T>{dy.data() + shift, dx.data(), count, blocks});
        expect_close(dx, expected, 20, 4, fmt::format("count {} shift {}", count, shift));
      }
    }
  });
}

TEST(NoiseVariants, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    const std::int64_t count = 1030, environments = 2;
    Guarded<float> x(normals(count, 5)), y((environments + 1) * count), dx(count);
    run(test_device(),
        NoiseVariantsForward<float>{x.data(), y.data(), count, environments, 0.1, kStream});
    run(test_device(), NoiseVariantsBackward<float>{y.data(), dx.data(), count, environments + 1});
    return joined(y, dx);
  });
}

}  // namespace
}  // namespace cmir::kernels
