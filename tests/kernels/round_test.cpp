#include "kernels/elementwise/round.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

/// Rounding to nearest even by the spacing of the numbers that have 8 significant bits, in f64,
/// where every step but the named one is exact. The smallest of f32's exponents have one spacing.
double rounded(double x) {
  if (!std::isfinite(x) || x == 0) return x;
  const int exponent = std::max(std::ilogb(x), -126);
  const double spacing = std::ldexp(1.0, exponent - 7);
  const double nearest = std::nearbyint(x / spacing) * spacing;  // ties to even
  return std::abs(nearest) < 0x1p128 ? nearest : std::copysign(INFINITY, x);
}

/// Every element has the oracle's value, its sign of zero too; NaN for NaN.
void expect_rounded(std::span<const float> x, Guarded<BFloat16>& y) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto actual = static_cast<float>(y[static_cast<std::int64_t>(i)]);
    const double expected = rounded(x[i]);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(actual)) << i;
    } else {
      ASSERT_EQ(actual, expected) << i << ": " << x[i];
      ASSERT_EQ(std::signbit(actual), std::signbit(expected)) << i << ": " << x[i];
    }
  }
}

/// Every upper half of an f32 with lower halves at and about the tie: normals and denormals of both
/// signs, infinities and NaNs of all payloads.
std::vector<float> every_upper_half() {
  std::vector<float> all;
  for (std::uint32_t upper = 0; upper < 0x10000U; ++upper) {
    for (const std::uint32_t lower : {0x0000U, 0x0001U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU})
      all.push_back(std::bit_cast<float>(upper << 16 | lower));
  }
  return all;
}

TEST(RoundToBFloat16, IsExactForEveryUpperHalfAndTie) {
  const auto values = every_upper_half();
  const auto count = static_cast<std::int64_t>(values.size());
  Guarded<float> x(count);
  std::ranges::copy(values, x.data());
  for_each_variant<float>([&] {
    Guarded<BFloat16> y(count);
    run(test_device(), RoundToBFloat16<float>{x.data(), y.data(), count});
    expect_rounded(x.span(), y);
  });
}

TEST(RoundToBFloat16, AnyLengthAndAlignment) {
  for_each_variant<float>([] {
    for (const std::int64_t count : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 127, 2049, 40001}) {
      for (const std::int64_t from : {0, 1, 4}) {
        for (const std::int64_t to : {0, 1, 8}) {
          Guarded<float> x(normals(from + count, 1, 1e3));
          Guarded<BFloat16> y(to + count), part(count);
          run(test_device(), RoundToBFloat16<float>{x.data() + from, y.data() + to, count});
          std::copy_n(y.data() + to, count, part.data());
          expect_rounded({x.data() + from, static_cast<std::size_t>(count)}, part);
          for (std::int64_t i = 0; i < to; ++i) EXPECT_TRUE(std::isnan(exact(y[i]))) << i;
        }
      }
    }
  });
}

TEST(RoundToBFloat16, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    Guarded<float> x(normals(50001, 1));
    Guarded<BFloat16> y(50001);
    run(test_device(), RoundToBFloat16<float>{x.data(), y.data(), 50001});
    return y.to_vector();
  });
}

}  // namespace
}  // namespace cmir::kernels
