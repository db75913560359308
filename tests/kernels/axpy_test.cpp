#include "kernels/elementwise/axpy.h"

#include "tests/kernels/kernel_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class AxpyTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(AxpyTest, Scalars);

TYPED_TEST(AxpyTest, MatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const std::int64_t count : {0, 1, 7, 33, 16385}) {
      Guarded<T> x(normals(count, 1)), y(normals(count, 2)), z(count);
      const auto x0 = x.to_vector(), y0 = y.to_vector();
      run(test_device(), Axpy<T>{T(-1.5), x.data(), y.data(), count});
      run(test_device(), Scale<T>{T(-1.5), x.data(), z.data(), count});
      std::vector<double> sum(count), scaled(count);
      for (std::int64_t i = 0; i < count; ++i) {
        scaled[i] = -1.5 * x0[i];
        sum[i] = y0[i] + scaled[i];
      }
      expect_close(y, sum, 10, 1, fmt::format("axpy count {}", count));
      expect_close(z, scaled, 10, 1, fmt::format("scale count {}", count));
    }
  });
}

TYPED_TEST(AxpyTest, SameBitsForAnyThreadCount) {
  using T = TypeParam;
  expect_same_bits_for_any_thread_count([] {
    Guarded<T> x(normals(50001, 1)), y(normals(50001, 2));
    run(Device{}, Axpy<T>{T(0.3), x.data(), y.data(), 50001});
    return y.bits();
  });
}

}  // namespace
}  // namespace cmir::kernels
