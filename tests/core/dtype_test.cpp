#include "core/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace cmir {
namespace {

float bits_to_float(std::uint32_t bits) { return std::bit_cast<float>(bits); }

/// Rounding to nearest even by its definition: of the two neighbours the nearer, in a tie the one
/// with an even last bit.
std::uint16_t nearest_even(std::uint32_t word) {
  const std::uint32_t below = word & 0xFFFF0000U, rest = word & 0xFFFFU;
  const bool odd = ((word >> 16) & 1) != 0;
  const bool up = rest > 0x8000U || (rest == 0x8000U && odd);
  return static_cast<std::uint16_t>((below >> 16) + (up ? 1 : 0));
}

TEST(BFloat16, RoundsEveryTieToEvenAndItsNeighboursToTheNearest) {
  for (std::uint32_t upper = 0; upper < 0x10000U; ++upper) {
    for (const std::uint32_t lower : {0x0000U, 0x0001U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      const std::uint32_t word = upper << 16 | lower;
      if (std::isnan(bits_to_float(word))) continue;
      ASSERT_EQ(BFloat16(bits_to_float(word)).bits, nearest_even(word)) << std::hex << word;
    }
  }
}

TEST(BFloat16, EveryValueSurvivesTheWayToF32AndBack) {
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    BFloat16 value;
    value.bits = static_cast<std::uint16_t>(bits);
    const auto wide = static_cast<float>(value);
    if (std::isnan(wide)) {
      ASSERT_TRUE(std::isnan(static_cast<float>(BFloat16(wide)))) << bits;
    } else {
      ASSERT_EQ(BFloat16(wide).bits, bits);
    }
  }
}

TEST(BFloat16, KeepsNaNAndInfinityAndOverflowsToInfinity) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(static_cast<float>(BFloat16(kInfinity)), kInfinity);
  EXPECT_EQ(static_cast<float>(BFloat16(-kInfinity)), -kInfinity);
  EXPECT_EQ(static_cast<float>(BFloat16(std::numeric_limits<float>::max())), kInfinity);
  EXPECT_EQ(BFloat16(-0.0F).bits, 0x8000);
  // A NaN whose payload lies in the lower half only must not become infinity, nor one of all ones
  // wrap round to zero.
  for (const std::uint32_t nan : {0x7F800001U, 0xFF800001U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
    EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(bits_to_float(nan))))) << std::hex << nan;
  }
}

TEST(DType, SizesAndNamesAgreeWithTheTypes) {
  static_assert(size_of(dtype_of<float>) == sizeof(float) &&
                size_of(dtype_of<double>) == sizeof(double));
  static_assert(size_of(dtype_of<BFloat16>) == sizeof(BFloat16) &&
                size_of(dtype_of<std::uint8_t>) == 1);
  static_assert(size_of(dtype_of<std::int32_t>) == 4 && size_of(dtype_of<std::int64_t>) == 8);
  EXPECT_EQ(name_of(DType::bf16), "bf16");
  EXPECT_TRUE(is_floating(DType::bf16));
  EXPECT_FALSE(is_floating(DType::i64));
}

TEST(DType, DispatchFloatNamesTheOpAndTheDType) {
  EXPECT_EQ(dispatch_float(DType::f64, "op", []<class T>() { return sizeof(T); }), 8U);
  try {
    dispatch_float(DType::bf16, "some_op", []<class T>() {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::usage);
    EXPECT_STREQ(error.what(), "some_op: needs f32 or f64, got bf16; convert with Tensor::to");
  }
}

}  // namespace
}  // namespace cmir
