#include "kernels/matrix/gemm.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class GemmTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double, BFloat16>;
TYPED_TEST_SUITE(GemmTest, Scalars);

struct Problem {
  std::int64_t m, n, k;
  bool transpose_a = false, transpose_b = false;
  double alpha = 1, beta = 0;
  std::int64_t padding = 0;  // added to every leading dimension
};

/// One product against the plain sum; with beta = 0, C starts as NaN, which must not be read. The
/// sum sees A and B after their rounding to T: bf16 has the bound of f32, in which it is summed.
template <class T>
void check(const Problem& p) {
  const std::int64_t lda = (p.transpose_a ? p.m : p.k) + p.padding,
                     ldb = (p.transpose_b ? p.k : p.n) + p.padding, ldc = p.n + p.padding;
  Guarded<T> a(normals((p.transpose_a ? p.k : p.m) * lda, 1)),
      b(normals((p.transpose_b ? p.n : p.k) * ldb, 2));
  using Sum = SumOf<T>;
  Guarded<Sum> c(p.m * ldc);
  if (p.beta != 0) std::ranges::copy(Guarded<Sum>(normals(p.m * ldc, 3)).span(), c.data());
  auto expected = c.to_vector();
  for (std::int64_t i = 0; i < p.m; ++i) {
    for (std::int64_t j = 0; j < p.n; ++j) {
      double sum = 0;
      for (std::int64_t l = 0; l < p.k; ++l) {
        sum += exact(p.transpose_a ? a[l * lda + i] : a[i * lda + l]) *
               exact(p.transpose_b ? b[j * ldb + l] : b[l * ldb + j]);
      }
      double& e = expected[i * ldc + j];
      e = p.alpha * sum + (p.beta == 0 ? 0.0 : p.beta * e);
    }
  }
  run(test_device(), Gemm<T>{p.transpose_a, p.transpose_b, p.m, p.n, p.k, Sum(p.alpha), a.data(),
                             lda, b.data(), ldb, Sum(p.beta), c.data(), ldc});
  const double norm =
      3 + std::abs(p.alpha) * p.k + std::abs(p.beta);  // sum of |alpha a b|, |beta c|
  expect_close(c, expected, norm, 2,
               fmt::format("m {} n {} k {} transposes {} {} alpha {} beta {} padding {}", p.m, p.n,
                           p.k, p.transpose_a, p.transpose_b, p.alpha, p.beta, p.padding));
}

TYPED_TEST(GemmTest, MatchesTheSum) {
  for_each_variant<TypeParam>([] {
    for (const bool ta : {false, true}) {
      for (const bool tb : {false, true}) {
        for (const std::int64_t m : {1, 7, 33}) {
          for (const std::int64_t n : {1, 8, 31}) {
            for (const std::int64_t k : {1, 9, 65}) check<TypeParam>({m, n, k, ta, tb});
          }
        }
        check<TypeParam>({150, 67, 131, ta, tb, -0.5, 2.0, 3});
        check<TypeParam>({67, 150, 131, ta, tb, 1.5, 1.0, 5});
        check<TypeParam>({300, 257, 150, ta, tb});               // several chunks of rows
        check<TypeParam>({48, 600, 150, ta, tb});                // several chunks of columns
        check<TypeParam>({66, 130, 515, ta, tb, 0.5, -1.0, 1});  // several blocks of bf16
      }
    }
  });
}

TYPED_TEST(GemmTest, EmptySizes) {
  for_each_variant<TypeParam>([] {
    for (const double beta : {0.0, 1.0, 0.5}) {
      check<TypeParam>({5, 3, 0, false, false, 1, beta});
      check<TypeParam>({5, 3, 0, true, true, 1, beta});
      check<TypeParam>({0, 3, 4, false, true, 1, beta});
      check<TypeParam>({5, 0, 4, true, false, 1, beta});
      check<TypeParam>({0, 0, 0, false, false, 1, beta});
      check<TypeParam>({300, 5, 0, false, false, 1, beta, 3});
    }
  });
}

TYPED_TEST(GemmTest, NanAndInfinityReachTheirRowAndNoOther) {
  using T = TypeParam;
  const std::int64_t m = 9, n = 17, k = 5;
  Guarded<T> a(normals(m * k, 1)), b(normals(k * n, 2));
  Guarded<SumOf<T>> c(m * n);
  a[4 * k + 2] = std::numeric_limits<T>::quiet_NaN();
  run(test_device(), Gemm<T>{.m = m,
                             .n = n,
                             .k = k,
                             .a = a.data(),
                             .lda = k,
                             .b = b.data(),
                             .ldb = n,
                             .c = c.data(),
                             .ldc = n});
  for (std::int64_t i = 0; i < m * n; ++i) EXPECT_EQ(std::isnan(c[i]), i / n == 4) << i;
}

TYPED_TEST(GemmTest, SameBitsForAnyThreadCount) {
  using T = TypeParam;
  for (const auto& [m, n] : {std::pair{480, 256}, std::pair{48, 600}}) {
    expect_same_bits_for_any_thread_count([m = m, n = n] {
      const std::int64_t k = 150;
      Guarded<T> a(normals(m * k, 1)), b(normals(k * n, 2));
      Guarded<SumOf<T>> c(m * n);
      run(test_device(), Gemm<T>{.m = m,
                                 .n = n,
                                 .k = k,
                                 .a = a.data(),
                                 .lda = k,
                                 .b = b.data(),
                                 .ldb = n,
                                 .c = c.data(),
                                 .ldc = n});
      return c.bits();
    });
  }
}

TEST(GemmSplit, CoversTheLongerSideInChunksOfSomeWork) {
  const GemmSplit rows = GemmSplit::of(2400, 256, 150), columns = GemmSplit::of(48, 600, 150);
  EXPECT_TRUE(rows.along_rows && rows.extent == 2400 && rows.grain < 2400);
  EXPECT_TRUE(!columns.along_rows && columns.extent == 600 && columns.grain < 600);
  EXPECT_EQ(GemmSplit::of(8, 8, 8).grain, 16);  // too small to share
  EXPECT_EQ(GemmSplit::of(0, 0, 0).extent, 0);
}

}  // namespace
}  // namespace cmir::kernels
