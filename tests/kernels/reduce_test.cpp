#include "kernels/reduce/sum.h"

#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class ReduceTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(ReduceTest, Scalars);

const std::vector<std::pair<std::int64_t, std::int64_t>> kShapes = {
    {0, 3},   {3, 0},    {1, 1},    {1, 33},   {7, 9},    {65, 17},
    {200, 8}, {1025, 3}, {5000, 7}, {66, 132}, {3, 1025}, {2, 1028}};

TYPED_TEST(ReduceTest, SumsMatchTheLoops) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    for (const auto& [rows, width] : kShapes) {
      const std::int64_t count = rows * width;
      Guarded<T> x(normals(count, 1)), other(normals(count, 2));
      Guarded<T> all(1), over_rows(width), products(width), over_columns(rows);
      std::vector<double> expected_all(1), expected_rows(width), expected_products(width),
          expected_columns(rows);
      for (std::int64_t i = 0; i < count; ++i) {
        expected_all[0] += 0.5 * x[i];
        expected_rows[i % width] += 0.5 * x[i];
        expected_products[i % width] += 0.5 * x[i] * other[i];
        expected_columns[i / width] += 0.5 * x[i];
      }
      Shared<double> workspace(
          std::max(SumAll<T>::workspace_size(count), SumOverRows<T>::workspace_size(rows, width)));
      run(test_device(), SumAll<T>{0.5, x.data(), all.data(), workspace.data(), count});
      run(test_device(),
          SumOverRows<T>{0.5, x.data(), nullptr, over_rows.data(), workspace.data(), rows, width});
      run(test_device(), SumOverRows<T>{0.5, x.data(), other.data(), products.data(),
                                        workspace.data(), rows, width});
      run(test_device(), SumOverColumns<T>{0.5, x.data(), over_columns.data(), rows, width});
      const auto where = fmt::format("rows {} width {}", rows, width);
      // Sums are made in f64: for f32 only the rounding of the result is left.
      const double factor = sizeof(T) == 4 ? 2 : 16;
      expect_close(all, expected_all, 10 + std::sqrt(count), factor, where);
      expect_close(over_rows, expected_rows, 10 + std::sqrt(rows), factor, where);
      expect_close(products, expected_products, 10 + std::sqrt(rows), factor, where);
      expect_close(over_columns, expected_columns, 10 + std::sqrt(width), factor, where);
    }
  });
}

TYPED_TEST(ReduceTest, SumsKeepSmallTermsBesideLargeOnes) {
  const std::int64_t count = 100000;  // a running f32 sum would stop at 2^24
  Guarded<float> x(std::vector<double>(count, 1000.0)), y(1);
  Shared<double> workspace(SumAll<float>::workspace_size(count));
  x[0] = 1.0F;
  for_each_variant<float>([&] {
    run(test_device(), SumAll<float>{1.0, x.data(), y.data(), workspace.data(), count});
    EXPECT_EQ(y[0], static_cast<float>(1000.0 * (count - 1) + 1));
  });
}

TYPED_TEST(ReduceTest, NanStaysInItsRowAndColumn) {
  using T = TypeParam;
  Guarded<T> x(normals(5 * 9, 1)), rows(9), columns(5);
  Shared<double> workspace(SumOverRows<T>::workspace_size(5, 9));
  x[2 * 9 + 4] = std::numeric_limits<T>::quiet_NaN();
  for_each_variant<T>([&] {
    run(test_device(), SumOverRows<T>{1.0, x.data(), nullptr, rows.data(), workspace.data(), 5, 9});
    run(test_device(), SumOverColumns<T>{1.0, x.data(), columns.data(), 5, 9});
    for (std::int64_t j = 0; j < 9; ++j) EXPECT_EQ(std::isnan(rows[j]), j == 4);
    for (std::int64_t i = 0; i < 5; ++i) EXPECT_EQ(std::isnan(columns[i]), i == 2);
  });
}

TYPED_TEST(ReduceTest, BroadcastFillsTheMatrix) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    for (const auto& [rows, width] : kShapes) {
      for (const auto& [row_stride, column_stride] : {std::pair{0, 0}, {0, 1}, {1, 0}}) {
        Guarded<T> x(normals(std::max<std::int64_t>({rows, width, 1}), 1)), y(rows * width);
        std::vector<double> expected(rows * width);
        for (std::int64_t i = 0; i < rows * width; ++i) {
          expected[i] = 0.25 * x[i / width * row_stride + i % width * column_stride];
        }
        run(test_device(),
            Broadcast<T>{0.25, x.data(), row_stride, column_stride, y.data(), rows, width});
        expect_close(y, expected, 5, 1, fmt::format("rows {} width {}", rows, width));
      }
    }
  });
}

TYPED_TEST(ReduceTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<TypeParam>([] {
    const std::int64_t rows = 5001, width = 17;
    Guarded<T> x(normals(rows * width, 1)), y(width + rows + 1);
    Shared<double> workspace(SumOverRows<T>::workspace_size(rows, width));
    run(test_device(),
        SumOverRows<T>{1.0, x.data(), x.data(), y.data(), workspace.data(), rows, width});
    run(test_device(), SumOverColumns<T>{1.0, x.data(), y.data() + width, rows, width});
    run(test_device(),
        SumAll<T>{1.0, x.data(), y.data() + width + rows, workspace.data(), rows * width});
    return y.bits();
  });
}

TEST(ReduceTest, AnyArrayMayBeMisaligned) {
  for (const auto& [rows, width] : {std::pair{70, 132}, {3, 1028}, {130, 128}}) {
    Shared<double> workspace(SumOverRows<float>::workspace_size(rows, width) + 16);
    const std::int64_t m = rows, n = width;
    expect_same_for_any_alignment({m * n, m * n, 1, n, m}, [&](const auto& p) {
      run(test_device(), SumAll<float>{0.5, p[0], p[2], workspace.data(), m * n - 1});
      run(test_device(), SumOverRows<float>{0.5, p[0], p[1], p[3], workspace.data(), m, n});
      run(test_device(), SumOverColumns<float>{0.5, p[0], p[4], m, n});
    });
    for (const auto& [row_stride, column_stride] : {std::pair{0, 0}, {0, 1}, {1, 0}}) {
      expect_same_for_any_alignment(
          {std::max(m, n), m * n}, [&, r = row_stride, c = column_stride](const auto& p) {
            run(test_device(), Broadcast<float>{0.5, p[0], r, c, p[1], m, n});
          });
    }
  }
}

}  // namespace
}  // namespace cmir::kernels
