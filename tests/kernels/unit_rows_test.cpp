#include "kernels/information/unit_rows.h"

#include "tests/kernels/kernel_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class UnitRowsTest : public ::testing::Test {};
using UnitRowsScalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(UnitRowsTest, UnitRowsScalars);

TYPED_TEST(UnitRowsTest, MatchTheFormula) {
  using T = TypeParam;
  for_each_variant<T>([] {
    for (const auto& [rows, width] : {std::pair{1, 1}, {3, 7}, {9, 132}, {5, 1028}, {130, 31}}) {
      for (const double magnitude : {1.0, 1e-30, 1e30}) {
        Guarded<T> x(normals(rows * width, 1, magnitude)), dy(normals(rows * width, 2)),
            y(rows * width), dx(rows * width);
        Guarded<double> inverse(rows);
        std::fill_n(x.data(), width, T{0});
        std::vector<double> expected_y(rows * width), expected_dx(rows * width);
        for (std::int64_t i = 1; i < rows; ++i) {
          double square = 0, along = 0;
          for (int k = 0; k < width; ++k) square += double(x[i * width + k]) * x[i * width + k];
          const double norm = std::sqrt(square);
          for (int k = 0; k < width; ++k) expected_y[i * width + k] = x[i * width + k] / norm;
          for (int k = 0; k < width; ++k) along += expected_y[i * width + k] * dy[i * width + k];
          for (std::int64_t e = i * width; e < (i + 1) * width; ++e) {
            expected_dx[e] = magnitude * (dy[e] - along * expected_y[e]) / norm;
          }
        }
        run(test_device(), UnitRowsForward<T>{x.data(), y.data(), inverse.data(), rows, width});
        run(test_device(),
            UnitRowsBackward<T>{y.data(), inverse.data(), dy.data(), dx.data(), rows, width});
        const auto what = fmt::format("[{}, {}] of {}", rows, width, magnitude);
        expect_close(y, expected_y, 1, 2, what);
        Guarded<T> scaled(rows * width);  // as dx itself may be beyond what the bound's norm holds
        for (std::int64_t e = 0; e < rows * width; ++e) {
          scaled[e] = static_cast<T>(static_cast<double>(dx[e]) * magnitude);
        }
        double largest = 5;
        for (const double g : expected_dx) largest = std::max(largest, std::abs(g));
        expect_close(scaled, expected_dx, largest, 8, what + " dx");
      }
    }
  });
}

}  // namespace
}  // namespace cmir::kernels
