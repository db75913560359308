#include "kernels/softmax/softmax.h"

#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class T>
class SoftmaxTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(SoftmaxTest, Scalars);

template <class T>
std::vector<T> softmax(const std::vector<double>& x, std::int64_t width,
                       const std::int64_t* lengths = nullptr) {
  const auto rows = static_cast<std::int64_t>(x.size()) / width;
  Guarded<T> input(x), y(rows * width);
  run(test_device(), SoftmaxForward<T>{input.data(), lengths, y.data(), rows, width});
  return y.bits();
}

TYPED_TEST(SoftmaxTest, MatchesTheFormula) {
  using T = TypeParam;
  auto widths = kAwkwardSizes;  // and around the longest row of one warp
  widths.insert(widths.end(), {1024, 1025, 1028});
  for_each_variant<T>([&] {
    for (const std::int64_t width : widths) {
      for (const double scale : {1e-3, 1.0, 1e4}) {
        const std::int64_t rows = 37;
        Shared<std::int64_t> lengths(rows);
        for (std::int64_t r = 0; r < rows; ++r)
          lengths[r] = r % 3 == 0 ? width - r % width : r % (width + 1);
        Guarded<T> x(normals(rows * width, 1, scale)), dy(normals(rows * width, 2)),
            y(rows * width), dx(rows * width);
        run(test_device(), SoftmaxForward<T>{x.data(), lengths.data(), y.data(), rows, width});
        run(test_device(),
            SoftmaxBackward<T>{y.data(), lengths.data(), dy.data(), dx.data(), rows, width});
        std::vector<double> y0(rows * width), dx0(rows * width);
        for (std::int64_t r = 0; r < rows; ++r) {
          double maximum = -kInfinity, sum = 0, dot = 0;
          for (std::int64_t j = 0; j < lengths[r]; ++j)
            maximum = std::max<double>(maximum, x[r * width + j]);
          for (std::int64_t j = 0; j < lengths[r]; ++j) sum += std::exp(x[r * width + j] - maximum);
          for (std::int64_t j = 0; j < lengths[r]; ++j) {
            y0[r * width + j] = std::exp(x[r * width + j] - maximum) / sum;
            dot += y0[r * width + j] * dy[r * width + j];
          }
          for (std::int64_t j = 0; j < lengths[r]; ++j)
            dx0[r * width + j] = y0[r * width + j] * (dy[r * width + j] - dot);
        }
        const std::string at = fmt::format("width {} scale {}", width, scale);
        expect_close(y, y0, 1, 30, at + " y");  // exp(x) errs by 2e-7 relative, and x - max by eps
                                                // |x - max|, where exp is small
        expect_close(dx, dx0, 4, 60, at + " dx");
      }
    }
  });
}

TYPED_TEST(SoftmaxTest, ExtremeLogits) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    const auto sure = softmax<T>({1e4, -1e4, 1e4, -kInfinity}, 4);
    EXPECT_EQ(sure, (std::vector<T>{T(0.5), T(0), T(0.5), T(0)}));
    EXPECT_EQ(softmax<T>({-kInfinity, -kInfinity, -kInfinity}, 3), (std::vector<T>{0, 0, 0}));
    EXPECT_EQ(softmax<T>({-1e4, -1e4}, 2), (std::vector<T>{T(0.5), T(0.5)}));
    for (const double bad : {std::nan(""), kInfinity}) {
      for (const T value : softmax<T>({0, bad, -kInfinity}, 3)) EXPECT_TRUE(std::isnan(value));
    }
    for (const T value : softmax<T>({std::nan(""), -kInfinity}, 2)) EXPECT_TRUE(std::isnan(value));
    const Shared<std::int64_t> lengths = {1};
    EXPECT_EQ(softmax<T>({3, std::nan(""), kInfinity}, 3, lengths.data()),
              (std::vector<T>{1, 0, 0}))
        << "masked NaN leaks";
  });
}

TYPED_TEST(SoftmaxTest, ARowGivesTheSameBitsAloneAndInABatch) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    const auto x = normals(300 * 47, 1);
    const auto batch = softmax<T>(x, 47);
    for (const std::int64_t row : {0, 87, 299}) {
      EXPECT_EQ(softmax<T>({x.begin() + row * 47, x.begin() + (row + 1) * 47}, 47),
                std::vector<T>(batch.begin() + row * 47, batch.begin() + (row + 1) * 47));
    }
  });
}

TYPED_TEST(SoftmaxTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<TypeParam>([] { return softmax<T>(normals(1000 * 31, 1), 31); });
}

TEST(SoftmaxTest, AnyArrayMayBeMisaligned) {
  for (const auto& [m, n] : {std::pair{7, 132}, {3, 1028}}) {
    const std::int64_t rows = m, width = n, count = rows * width;
    const Shared<std::int64_t> lengths = {width, 0, 5, width - 1, 31, 2, 100};
    expect_same_for_any_alignment({count, count}, [&](const std::vector<float*>& p) {
      run(test_device(), SoftmaxForward<float>{p[0], lengths.data(), p[1], rows, width});
    });
    expect_same_for_any_alignment({count, count, count}, [&](const std::vector<float*>& p) {
      run(test_device(), SoftmaxBackward<float>{p[0], lengths.data(), p[1], p[2], rows, width});
    });
  }
}

}  // namespace
}  // namespace cmir::kernels
