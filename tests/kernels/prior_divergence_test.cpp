#include "kernels/information/prior_divergence.h"

#include "tests/kernels/kernel_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class PriorDivergenceTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PriorDivergenceTest, Scalars);

/// Inputs, and the value and gradients of both kernels with a cotangent of -1.5.
template <class T>
struct Result {
  std::int64_t rows, width;
  Guarded<T> mu, logvar, cotangent{std::vector<double>{-1.5}}, value{1}, dmu, dlogvar;

  Result(std::int64_t samples, std::int64_t features, double size)
      : rows(samples),
        width(features),
        mu(normals(rows * width, 1, size)),
        logvar(normals(rows * width, 2)),
        dmu(rows * width),
        dlogvar(rows * width) {
    const double scale = 1.0 / static_cast<double>(rows);
    Guarded<double> sums(rows);
    run(test_device(), PriorDivergenceForward<T>{mu.data(), logvar.data(), rows, width, scale,
                                                 sums.data(), value.data()});
    run(test_device(), PriorDivergenceBackward<T>{mu.data(), logvar.data(), cotangent.data(), rows,
                                                  width, scale, dmu.data(), dlogvar.data()});
  }
};

TYPED_TEST(PriorDivergenceTest, MatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [rows, width] :
         {std::pair{1, 1}, {1, 7}, {5, 1}, {7, 33}, {65, 4}, {31, 130}, {3, 1028}, {300, 20}}) {
      for (const double size : {1e-4, 1.0, 1e3}) {
        Result<T> r(rows, width, size);
        const double c = -1.5 / static_cast<double>(rows);
        long double value = 0;
        double norm = 0;
        std::vector<double> dmu, dlogvar;
        for (std::int64_t i = 0; i < rows * width; ++i) {
          const double mu = r.mu[i], logvar = r.logvar[i];
          value += (mu * mu + std::exp(logvar) - 1 - logvar) / 2 / static_cast<double>(rows);
          norm += (mu * mu + std::exp(logvar) + 1 + std::abs(logvar)) / static_cast<double>(rows);
          dmu.push_back(c * mu);
          dlogvar.push_back(c / 2 * (std::exp(logvar) - 1));
        }
        const auto where = fmt::format("rows {} width {} size {}", rows, width, size);
        expect_close(r.value, {static_cast<double>(value)}, norm, 4, where);
        expect_close(r.dmu, dmu, std::abs(c) * 5 * size, 4, where);
        expect_close(r.dlogvar, dlogvar, std::abs(c) * 150, 4, where);
      }
    }
  });
}

TYPED_TEST(PriorDivergenceTest, IsZeroOfTheStandardNormalItself) {
  using T = TypeParam;
  for_each_variant<T>([] {
    const std::int64_t rows = 9, width = 6;
    Guarded<T> zeros(rows * width, T{0}), value(1);
    Guarded<double> sums(rows);
    run(test_device(), PriorDivergenceForward<T>{zeros.data(), zeros.data(), rows, width, 1.0,
                                                 sums.data(), value.data()});
    EXPECT_EQ(value[0], T{0});
  });
}

TYPED_TEST(PriorDivergenceTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<T>([] {
    Result<T> r(700, 36, 1.0);
    auto bits = r.value.bits();
    for (auto* gradient : {&r.dmu, &r.dlogvar}) {
      const auto more = gradient->bits();
      bits.insert(bits.end(), more.begin(), more.end());
    }
    return bits;
  });
}

TEST(PriorDivergence, AnyArrayMayBeMisaligned) {
  const std::int64_t rows = 7, width = 36;
  Guarded<float> cotangent(std::vector<double>{-1.5}), value(1);
  Guarded<double> sums(rows);
  expect_same_for_any_alignment({rows * width, rows * width, 1}, [&](const auto& p) {
    run(test_device(),
        PriorDivergenceForward<float>{p[0], p[1], rows, width, 1.0, sums.data(), p[2]});
  });
  const std::int64_t count = rows * width;
  expect_same_for_any_alignment({count, count, count, count}, [&](const auto& p) {
    run(test_device(),
        PriorDivergenceBackward<float>{p[0], p[1], cotangent.data(), rows, width, 1.0, p[2], p[3]});
  });
}

}  // namespace
}  // namespace cmir::kernels
