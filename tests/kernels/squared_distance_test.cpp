#include "kernels/loss/squared_distance.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/outputs_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class SquaredDistanceTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SquaredDistanceTest, Scalars);

template <class T>
void check(std::int64_t count, std::int64_t shift, double magnitude) {
  Guarded<T> a(normals(count + shift, 1, magnitude)), b(normals(count + shift, 2, magnitude)),
      cotangent(std::vector<double>{-1.5}), value(1), da(count), db(count), only(count);
  Guarded<double> partial(SquaredDistanceForward<T>::workspace(count));
  const double scale = 1.0 / static_cast<double>(count + 1);
  long double sum = 0;  // more exact than f64 kernels
  std::vector<double> plus(count), minus(count);
  for (std::int64_t i = 0; i < count; ++i) {
    const double difference = static_cast<double>(a[shift + i]) - b[shift + i];
    sum += difference * difference;
    plus[i] = 2 * scale * -1.5 * difference;
    minus[i] = -plus[i];
  }
  const T *x = a.data() + shift, *y = b.data() + shift;
  run(test_device(), SquaredDistanceForward<T>{x, y, count, scale, partial.data(), value.data()});
  run(test_device(),
      SquaredDistanceBackward<T>{x, y, cotangent.data(), count, scale, da.data(), db.data()});
  run(test_device(),
      SquaredDistanceBackward<T>{x, y, cotangent.data(), count, scale, nullptr, only.data()});
  const auto what = fmt::format("count {} shift {} magnitude {}", count, shift, magnitude);
  const auto expected = static_cast<double>(scale * sum);
  expect_close(value, {expected}, expected, 16, what);  // the terms are positive
  expect_close(da, plus, 15 * magnitude * scale, 4, what + " da");
  expect_close(db, minus, 15 * magnitude * scale, 4, what + " db");
  expect_close(only, minus, 15 * magnitude * scale, 4, what + " db only");
}

/// Counts about the 1024 elements of a device block, all remainders mod 4, misaligned arrays.
TYPED_TEST(SquaredDistanceTest, MatchesTheFormula) {
  for_each_variant<TypeParam>([] {
    for (const std::int64_t count : {0, 1, 2, 3, 4, 5, 150, 1023, 1024, 1025, 3001}) {
      for (const std::int64_t shift : {0, 1}) {
        for (const double magnitude : {1.0, 1e15, 1e-15}) check<TypeParam>(count, shift, magnitude);
      }
    }
  });
}

/// More elements than 1024 device blocks take at a time.
TYPED_TEST(SquaredDistanceTest, ManyElements) {
  for_each_variant<TypeParam>([] { check<TypeParam>(1024 * 1024 + 1030, 0, 1); });
}

TYPED_TEST(SquaredDistanceTest, NaNGivesNaN) {
  using T = TypeParam;
  for_each_variant<T>([] {
    Guarded<T> a(normals(15, 1)), b(normals(15, 2)), value(1);
    Guarded<double> partial(SquaredDistanceForward<T>::workspace(15));
    a[14] = std::numeric_limits<T>::quiet_NaN();
    run(test_device(),
        SquaredDistanceForward<T>{a.data(), b.data(), 15, 1, partial.data(), value.data()});
    EXPECT_TRUE(std::isnan(value[0]));
  });
}

TEST(SquaredDistance, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    const std::int64_t count = 2100;
    Guarded<float> a(normals(count, 1)), b(normals(count, 2)), value(1), da(count), db(count);
    Guarded<double> partial(SquaredDistanceForward<float>::workspace(count));
    run(test_device(), SquaredDistanceForward<float>{a.data(), b.data(), count, 0.1, partial.data(),
                                                     value.data()});
    run(test_device(), SquaredDistanceBackward<float>{a.data(), b.data(), value.data(), count, 0.1,
                                                      da.data(), db.data()});
    return joined(value, da, db);
  });
}

}  // namespace
}  // namespace cmir::kernels
