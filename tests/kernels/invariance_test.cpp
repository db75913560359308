#include "kernels/loss/invariance.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class InvarianceKernelTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(InvarianceKernelTest, Scalars);

/// Runs forward with and without ranks, then backward, against all pairs written out.
template <class T>
void check(const std::vector<double>& values, std::int64_t variants, std::int64_t count,
           const std::string& what) {
  const double scale = 0.7 / static_cast<double>(std::max<std::int64_t>(count, 1));
  Guarded<T> z(values), value(1), value_only(1), cotangent(std::vector<double>{-1.5}),
      dz(variants * count);
  Guarded<double> partial(InvarianceForward<T>::workspace(count));
  Guarded<std::int8_t> ranks(variants * count);
  long double sum = 0;  // more exact than f64 kernels
  std::vector<double> rank(variants * count), gradient(variants * count);
  for (std::int64_t a = 0; a < variants; ++a) {
    for (std::int64_t b = a + 1; b < variants; ++b) {
      for (std::int64_t i = 0; i < count; ++i) {
        const double x = z[a * count + i], y = z[b * count + i];
        const double sign = (x > y) - (x < y);
        sum += std::abs(x - y);
        rank[a * count + i] += sign;
        rank[b * count + i] -= sign;
      }
    }
  }
  for (std::size_t i = 0; i < rank.size(); ++i) gradient[i] = -1.5 * scale * rank[i];
  const auto exact = static_cast<double>(scale * sum);
  run(test_device(), InvarianceForward<T>{z.data(), variants, count, scale, partial.data(),
                                          value.data(), ranks.data()});
  run(test_device(), InvarianceForward<T>{z.data(), variants, count, scale, partial.data(),
                                          value_only.data(), nullptr});
  run(test_device(),
      InvarianceBackward<T>{ranks.data(), cotangent.data(), scale, dz.data(), variants * count});
  // Distances are positive, so the sum's error is relative to it.
  expect_close(value, {exact}, exact, 16, what + " value");
  EXPECT_EQ(std::memcmp(value.data(), value_only.data(), sizeof(T)), 0) << what;
  expect_close(dz, gradient, 1.5 * scale * static_cast<double>(variants), 4, what + " gradient");
}

/// Counts about the 128 positions of a device block; most variants; ties.
TYPED_TEST(InvarianceKernelTest, MatchesAllPairsWrittenOut) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const std::int64_t count : {0, 1, 7, 127, 128, 129, 300}) {
      for (const std::int64_t variants : {1, 2, 5, 11}) {
        const auto what = fmt::format("variants {} count {}", variants, count);
        auto z = normals(variants * count, 1);
        check<T>(z, variants, count, what);
        for (std::size_t i = 0; i < z.size(); ++i) z[i] = static_cast<double>((i * i) % 3);
        check<T>(z, variants, count, what + " with ties");
      }
    }
    check<T>(normals(128 * 15, 9), 128, 15, "most variants");
    check<T>(normals(4 * 36, 2, 1e30), 4, 36, "huge");
  });
}

/// More positions than 1024 device blocks hold at a time.
TYPED_TEST(InvarianceKernelTest, ManyPositions) {
  using T = TypeParam;
  for_each_variant<T>([] { check<T>(normals(2 * 131100, 3), 2, 131100, "many positions"); });
}

TYPED_TEST(InvarianceKernelTest, NaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (int where = 0; where < 3; ++where) {
      Guarded<T> z(normals(3 * 6, 3)), value(1);
      Guarded<double> partial(InvarianceForward<T>::workspace(6));
      z[where * 6 + 5] = std::numeric_limits<T>::quiet_NaN();
      run(test_device(),
          InvarianceForward<T>{z.data(), 3, 6, 1, partial.data(), value.data(), nullptr});
      EXPECT_TRUE(std::isnan(value[0])) << where;
    }
  });
}

TEST(InvarianceKernel, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    const std::int64_t variants = 5, count = 300;
    Guarded<float> z(normals(variants * count, 1)), value(1), dz(variants * count);
    Guarded<double> partial(InvarianceForward<float>::workspace(count));
    Guarded<std::int8_t> ranks(variants * count);
    run(test_device(), InvarianceForward<float>{z.data(), variants, count, 0.1, partial.data(),
                                                value.data(), ranks.data()});
    run(test_device(),
        InvarianceBackward<float>{ranks.data(), value.data(), 0.1, dz.data(), variants * count});
    return joined(value, dz);
  });
}

}  // namespace
}  // namespace cmir::kernels
