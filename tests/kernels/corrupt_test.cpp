#include "kernels/loss/corrupt.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

const RandomStream kStream{.seed = 0x9E3779B97F4A7C15, .step = 17, .site = 3};
constexpr CorruptionKind kKinds[] = {CorruptionKind::gaussian, CorruptionKind::laplace,
                                     CorruptionKind::erase, CorruptionKind::laplace_or_erase};

template <class T>
class CorruptTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(CorruptTest, Scalars);

/// Element i of the corrupted x, from the stream's own scalar functions.
template <class T>
double corrupted(const Corrupt<T>& a, std::int64_t i) {
  CorruptionKind kind = a.kind;
  if (kind == CorruptionKind::laplace_or_erase) {
    const auto choice = kStream.word((std::uint64_t{1} << 62) + i / a.width);
    kind = choice >= 0x80000000U ? CorruptionKind::laplace : CorruptionKind::erase;
  }
  const double x = a.x[i];
  const std::uint32_t word = kStream.word(i);
  if (kind == CorruptionKind::erase) {
    return RandomStream::uniform_of(word) < static_cast<float>(a.rate) ? 0.0 : x;
  }
  if (a.linear_part_only) return (1 - a.rate) * x;
  const double exponential = -std::log(((word >> 8) + 1.0) * 0x1p-24);
  const double noise = kind == CorruptionKind::gaussian
                           ? kStream.normal(i)
                           : (word % 2 ? -1 : 1) * a.laplace_scale * exponential;
  return (1 - a.rate) * x + a.rate * noise;
}

/// Rows shorter than a Philox block's four, as long, longer and of all remainders.
TYPED_TEST(CorruptTest, MatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const CorruptionKind kind : kKinds) {
      for (const bool linear : {false, true}) {
        for (const auto& [rows, width] : {std::pair{0, 3},
                                          {1, 1},
                                          {23, 1},
                                          {17, 2},
                                          {19, 3},
                                          {7, 4},
                                          {7, 13},
                                          {40, 31},
                                          {3, 600}}) {
          for (const std::int64_t shift : {0, 1}) {
            const std::int64_t count = rows * width;
            Guarded<T> x(normals(count + shift, 4)), y(count);
            const Corrupt<T> a{x.data() + shift, y.data(), rows, width, kind, 0.3, 0.8,
                               linear,           kStream};
            std::vector<double> expected(count);
            for (std::int64_t i = 0; i < count; ++i) expected[i] = corrupted(a, i);
            run(test_device(), a);
            // The noise is f32 for either T: at most 0.3 0.8 17 exponentials with a few eps each.
            expect_close(y, expected, 1e-5, 1 / std::numeric_limits<T>::epsilon(),
                         fmt::format("kind {} linear {} [{}, {}] shift {}", static_cast<int>(kind),
                                     linear, rows, width, shift));
          }
        }
      }
    }
  });
}

TYPED_TEST(CorruptTest, RateZeroKeepsEveryBitAndRateOneErasesAll) {
  using T = TypeParam;
  for_each_variant<T>([] {
    const std::int64_t rows = 50, width = 11;
    Guarded<T> x(normals(rows * width, 4));
    for (const CorruptionKind kind : kKinds) {
      Guarded<T> y(rows * width);
      run(test_device(), Corrupt<T>{x.data(), y.data(), rows, width, kind, 0, 1, false, kStream});
      EXPECT_EQ(x.bits(), y.bits());
    }
    Guarded<T> y(rows * width);
    run(test_device(),
        Corrupt<T>{x.data(), y.data(), rows, width, CorruptionKind::erase, 1, 1, false, kStream});
    EXPECT_EQ(y.bits(), std::vector<T>(rows * width, T{0}));
  });
}

TEST(Corrupt, SameBitsForAnyThreadCountAndSchedule) {
  expect_same_bits<float>([] {
    const std::int64_t rows = 41, width = 31;
    Guarded<float> x(normals(rows * width, 4)), y(rows * width);
    run(test_device(), Corrupt<float>{x.data(), y.data(), rows, width,
                                      CorruptionKind::laplace_or_erase, 0.3, 0.8, false, kStream});
    return y.bits();
  });
}

}  // namespace
}  // namespace cmir::kernels
