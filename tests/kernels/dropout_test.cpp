#include "kernels/dropout/dropout.h"

#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class DropoutTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(DropoutTest, Scalars);

TYPED_TEST(DropoutTest, FollowsTheStreamElementByElement) {
  using T = TypeParam;
  const RandomStream stream{.seed = 0x123456789ABCDEF0u, .step = 5, .site = 9};
  for_each_variant<TypeParam>([&] {
    for (const std::int64_t count : {0, 1, 3, 4, 5, 63, 64, 65, 127, 4095, 4097, 9000}) {
      for (const double p : {0.0, 0.1, 0.5, 0.999}) {
        Guarded<T> x(normals(count, 1)), y(count);
        std::vector<double> expected(count);
        for (std::int64_t i = 0; i < count; ++i)
          expected[i] = stream.uniform(i) >= p ? x[i] / (1 - p) : 0.0;
        run(test_device(), Dropout<T>{x.data(), y.data(), count, p, stream});
        expect_close(y, expected, 5 / (1 - p), 1, fmt::format("count {} p {}", count, p));
      }
    }
  });
}

TYPED_TEST(DropoutTest, KeepsExactlyTheUniformsThatReachP) {
  using T = TypeParam;
  const RandomStream stream{.seed = 3};
  const double p = stream.uniform(5);  // element 5 sits on the boundary and is kept
  for_each_variant<T>([&] {
    Guarded<T> x(std::vector<double>(8, 1.0)), y(8);
    run(test_device(), Dropout<T>{x.data(), y.data(), 8, p, stream});
    EXPECT_GT(y[5], T{0});
    run(test_device(), Dropout<T>{x.data(), y.data(), 8, std::nextafter(p, 1.0), stream});
    EXPECT_EQ(y[5], T{0});
  });
}

TYPED_TEST(DropoutTest, DropsNanAndInfinityToo) {
  using T = TypeParam;
  const std::int64_t count = 1000;
  const RandomStream stream{.seed = 4};
  for_each_variant<T>([&] {
    Guarded<T> x(std::vector<double>(count, std::nan(""))), y(count);
    run(test_device(), Dropout<T>{x.data(), y.data(), count, 0.4, stream});
    for (std::int64_t i = 0; i < count; ++i)
      EXPECT_EQ(std::isnan(y[i]), stream.uniform(i) >= 0.4) << i;
  });
}

TYPED_TEST(DropoutTest, KeepsTheExpectedShare) {
  using T = TypeParam;
  const std::int64_t count = 200000;
  Guarded<T> x(std::vector<double>(count, 1.0)), y(count);
  run(test_device(),
      Dropout<T>{x.data(), y.data(), count, 0.3, {.seed = 11, .step = 2, .site = 7}});
  double sum = 0;
  for (const double v : y.to_vector()) sum += v;
  // Five standard deviations of a mean whose elements have variance p / (1 - p).
  EXPECT_NEAR(sum / count, 1.0, 5 * std::sqrt(0.3 / 0.7 / count));
}

TYPED_TEST(DropoutTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<TypeParam>([] {
    Guarded<T> x(normals(50001, 1)), y(50001);
    run(test_device(), Dropout<T>{x.data(), y.data(), 50001, 0.25, {.seed = 8}});
    return y.bits();
  });
}

TEST(DropoutTest, AnyArrayMayBeMisaligned) {
  expect_same_for_any_alignment({1003, 1003}, [](const std::vector<float*>& p) {
    run(test_device(), Dropout<float>{p[0], p[1], 1003, 0.3, {.seed = 1}});
  });
}

}  // namespace
}  // namespace cmir::kernels
