// Products on AMX tiles against f64 loops. Skipped where the CPU has none.
#include "kernels/cpu/amx.h"

#include "tests/kernels/kernel_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

struct Shape {
  std::int64_t m, n, k;
};
/// About a tile's 16 rows and columns and its depth of 32, a block's 32, and a strip's depth of
/// 256.
const std::vector<Shape> kShapes = {{1, 1, 1},    {16, 16, 32},  {17, 15, 31},  {32, 32, 64},
                                    {31, 65, 33}, {48, 33, 257}, {128, 40, 300}};

template <class T>
class AmxTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!cpu_supports(Isa::amx)) GTEST_SKIP() << "this CPU has no AMX, or the system withholds it";
  }
};
using Scalars = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(AmxTest, Scalars);

/// Factors op(A) and op(B), stored as they are or transposed, a few elements apart.
template <class T>
struct Problem {
  Shape s;
  bool transpose_a, transpose_b;
  std::int64_t stride_a, stride_b;
  Guarded<T> a, b;

  Problem(const Shape& shape, bool of_a, bool of_b, double size_a = 1, double size_b = 1)
      : s(shape),
        transpose_a(of_a),
        transpose_b(of_b),
        stride_a((of_a ? s.m : s.k) + 3),
        stride_b((of_b ? s.k : s.n) + 5),
        a(normals((of_a ? s.k : s.m) * stride_a, 1, size_a)),
        b(normals((of_b ? s.n : s.k) * stride_b, 2, size_b)) {}
  T& at_a(std::int64_t i, std::int64_t l) {
    return a[transpose_a ? l * stride_a + i : i * stride_a + l];
  }
  T& at_b(std::int64_t l, std::int64_t j) {
    return b[transpose_b ? j * stride_b + l : l * stride_b + j];
  }
  /// c [m, n] with this stride.
  void multiply(float alpha, bool add, float* c, std::int64_t stride) {
    constexpr int kParts = cpu::kAmxParts<T>;
    const cpu::AmxTiles tiles;
    cpu::AmxFactor<kParts> left(s.m, s.k), right(s.n, s.k);
    left.pack_left(transpose_a, a.data(), stride_a, s.m, s.k);
    right.pack_right(transpose_b, b.data(), stride_b, s.k, s.n);
    cpu::multiply(alpha, left, right, add, c, stride);
  }
  /// Each element of alpha (A B + old) within what kernels/cpu/amx.h allows.
  void check(float alpha, const std::vector<float>* old, const float* c, std::int64_t stride) {
    const double eps = std::numeric_limits<float>::epsilon(), k = static_cast<double>(s.k);
    for (std::int64_t i = 0; i < s.m; ++i) {
      for (std::int64_t j = 0; j < s.n; ++j) {
        double sum = old ? (*old)[i * stride + j] : 0.0, terms = std::abs(sum), sizes = 0;
        for (std::int64_t l = 0; l < s.k; ++l) {
          const double x = exact(at_a(i, l)), y = exact(at_b(l, j));
          sum += x * y;
          terms += std::abs(x * y);
          sizes += std::abs(x) + std::abs(y);
        }
        const double factor = std::is_same_v<T, BFloat16> ? k + 3 : 4 * k + 8;
        const double bound = factor * eps * terms + 0x1p-125 * (sizes + 6 * k);
        ASSERT_NEAR(c[i * stride + j], alpha * sum, std::abs(alpha) * bound)
            << s.m << " x " << s.n << " x " << s.k << ": " << i << ", " << j;
      }
    }
  }
};

TYPED_TEST(AmxTest, ProductsMatchLoops) {
  for (const Shape& s : kShapes) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        for (const auto& [alpha, add] : {std::pair{1.0F, false}, {-2.5F, false}, {1.5F, true}}) {
          Problem<TypeParam> p(s, transpose_a, transpose_b);
          const std::int64_t stride = s.n + 3;
          Guarded<float> c(normals(s.m * stride, 3));
          const std::vector<float> old(c.data(), c.data() + s.m * stride);
          p.multiply(alpha, add, c.data(), stride);
          p.check(alpha, add ? &old : nullptr, c.data(), stride);
          for (std::int64_t i = 0; i < s.m; ++i) {
            for (std::int64_t j = s.n; j < stride; ++j)
              ASSERT_EQ(c[i * stride + j], old[i * stride + j]) << "wrote behind row " << i;
          }
        }
      }
    }
  }
}

/// Products near f32's largest number, parts and products that are too small for AMX, and both.
TYPED_TEST(AmxTest, HugeAndTinyMagnitudes) {
  const Shape s{20, 18, 70};
  for (const auto& [of_a, of_b] : std::vector<std::pair<double, double>>{
           {1e18, 1e17}, {1e36, 1e-30}, {1e-30, 1e30}, {1e-37, 1}, {1e-41, 1e10}, {1e-25, 1e-25}}) {
    Problem<TypeParam> p(s, false, true, of_a, of_b);
    Guarded<float> c(s.m * s.n);
    p.multiply(1, false, c.data(), s.n);
    p.check(1, nullptr, c.data(), s.n);
  }
  Problem<TypeParam> p({1, 1, 1}, false, false);
  p.a[0] = std::numeric_limits<TypeParam>::max();  // f32's would be infinite if rounded to bf16
  p.b[0] = TypeParam(0.5F);
  Guarded<float> c(1);
  p.multiply(1, false, c.data(), 1);
  p.check(1, nullptr, c.data(), 1);
}

/// Magnitudes that differ by far within one sum, and cancel.
TYPED_TEST(AmxTest, TermsThatCancel) {
  Problem<TypeParam> p({16, 16, 64}, false, false);
  for (std::int64_t i = 0; i < 16; ++i) {
    for (std::int64_t l = 0; l < 32; ++l) {
      p.at_a(i, l) = TypeParam(static_cast<float>(exact(p.at_a(i, l)) * std::pow(2.0, l)));
      p.at_a(i, 32 + l) = TypeParam(static_cast<float>(-exact(p.at_a(i, l))));
      for (std::int64_t j = 0; j < 16; ++j) p.at_b(32 + l, j) = p.at_b(l, j);
    }
  }
  Guarded<float> c(16 * 16);
  p.multiply(1, false, c.data(), 16);
  p.check(1, nullptr, c.data(), 16);
}

/// Every bit pattern of a NaN stays one, in its row alone; an infinite factor gives NaN in f32.
TYPED_TEST(AmxTest, NaNGivesNaN) {
  using Bits = std::conditional_t<std::is_same_v<TypeParam, float>, std::uint32_t, std::uint16_t>;
  constexpr int shift = std::is_same_v<TypeParam, float> ? 0 : 16;
  for (const std::uint32_t word :
       {0x7FC00000U, 0xFFC00000U, 0x7FFFFFFFU, 0xFFFFFFFFU, 0x7FA00000U}) {
    Problem<TypeParam> p({20, 18, 40}, false, true);
    p.at_a(17, 33) = std::bit_cast<TypeParam>(static_cast<Bits>(word >> shift));
    Guarded<float> c(20 * 18);
    p.multiply(1, false, c.data(), 18);
    for (std::int64_t i = 0; i < 20; ++i) {
      for (std::int64_t j = 0; j < 18; ++j) EXPECT_EQ(std::isnan(c[i * 18 + j]), i == 17) << word;
    }
  }
}

TEST(Amx, ANaNOfTheLowestBitsAndAnInfiniteFactorGiveNaN) {
  if (!cpu_supports(Isa::amx)) GTEST_SKIP() << "this CPU has no AMX, or the system withholds it";
  for (const std::uint32_t word : {0x7F800001U, 0xFF800001U, 0x7F800000U}) {
    Problem<float> p({1, 1, 3}, false, false);
    p.a[1] = std::bit_cast<float>(word);
    Guarded<float> c(1);
    p.multiply(1, false, c.data(), 1);
    EXPECT_TRUE(std::isnan(c[0])) << word;
  }
}

/// f32 that is packed in one part is rounded as BFloat16 is.
TEST(Amx, OnePartIsRoundedToNearestEven) {
  if (!cpu_supports(Isa::amx)) GTEST_SKIP() << "this CPU has no AMX, or the system withholds it";
  std::vector<float> values;
  for (const double x : normals(300, 4)) values.push_back(static_cast<float>(x));
  for (const std::uint32_t bits : {0x3F808000U, 0x3F818000U, 0x3F807FFFU, 0x3F808001U, 0xBF818000U,
                                   0x7F7F0000U, 0x7FC00000U, 0x7FFFFFFFU}) {
    values.push_back(std::bit_cast<float>(bits));
  }
  const cpu::AmxTiles tiles;
  const auto count = static_cast<std::int64_t>(values.size());
  const BFloat16 one(1.0F);
  cpu::AmxFactor<1> left(count, 1), right(1, 1);
  left.pack_left(false, values.data(), 1, count, 1);
  right.pack_right(false, &one, 1, 1, 1);
  Guarded<float> c(count);
  cpu::multiply(1, left, right, false, c.data(), 1);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto expected = static_cast<float>(BFloat16(values[i]));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(c[i])) << i;
    } else {
      EXPECT_EQ(c[i], expected) << i;
    }
  }
}

}  // namespace
}  // namespace cmir::kernels
