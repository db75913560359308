// embedding.h and copy.h.
#include "kernels/embedding/embedding.h"
#include "kernels/rows/copy.h"

#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class RowsTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(RowsTest, Scalars);

Shared<std::int32_t> random_indices(std::int64_t rows, std::int64_t count) {
  Shared<std::int32_t> indices(rows);
  const RandomStream stream{.seed = 9};
  for (std::int64_t i = 0; i < rows; ++i)
    indices[i] = static_cast<std::int32_t>(stream.word(i) % count);
  return indices;
}

TYPED_TEST(RowsTest, EmbeddingAndItsGradient) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    for (const auto& [count, width, rows] : {std::tuple{1, 1, 1},
                                             {5, 3, 0},
                                             {5, 0, 3},
                                             {7, 17, 40},
                                             {3, 65, 9},
                                             {50, 150, 400},
                                             {4, 129, 1000},
                                             {40, 132, 130}}) {
      const auto indices = random_indices(rows, count);
      Guarded<T> table(normals(count * width, 1)), y(rows * width), dy(normals(rows * width, 2));
      Guarded<T> dtable(normals(count * width, 3));
      Shared<std::int64_t> workspace(2 * rows);
      std::vector<double> expected(rows * width), gradient = dtable.to_vector();
      for (std::int64_t i = 0; i < rows * width; ++i) {
        expected[i] = table[indices[i / width] * width + i % width];
        gradient[indices[i / width] * width + i % width] += dy[i];
      }
      run(test_device(), EmbeddingForward<T>{table.data(), indices.data(), y.data(), rows, width});
      run(test_device(), EmbeddingBackward<T>{dy.data(), indices.data(), dtable.data(), rows, width,
                                              workspace.data()});
      const auto where = fmt::format("count {} width {} rows {}", count, width, rows);
      expect_close(y, expected, 0, 0, where);
      expect_close(dtable, gradient, 5.0 + rows, 2, where);
    }
  });
}

TYPED_TEST(RowsTest, CopyColumnsTouchesOnlyItsBlock) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    for (const auto& [rows, width] :
         {std::pair{0, 3}, {3, 0}, {1, 1}, {7, 9}, {600, 33}, {1, 20000}, {33, 128}}) {
      const std::int64_t x_stride = width + 2, y_stride = width + 5;
      Guarded<T> x(normals(rows * x_stride, 1)), y(normals(rows * y_stride, 2));
      auto expected = y.to_vector();
      for (std::int64_t i = 0; i < rows; ++i) {
        for (std::int64_t j = 0; j < width; ++j)
          expected[i * y_stride + 3 + j] = x[i * x_stride + 1 + j];
      }
      run(test_device(),
          CopyColumns<T>{x.data() + 1, x_stride, y.data() + 3, y_stride, rows, width});
      expect_close(y, expected, 0, 0, fmt::format("rows {} width {}", rows, width));
    }
  });
}

TYPED_TEST(RowsTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  expect_same_bits<TypeParam>([] {
    const std::int64_t count = 11, width = 150, rows = 900;
    const auto indices = random_indices(rows, count);
    Guarded<T> dy(normals(rows * width, 2)), dtable(count * width, T{0});
    Shared<std::int64_t> workspace(2 * rows);
    run(test_device(), EmbeddingBackward<T>{dy.data(), indices.data(), dtable.data(), rows, width,
                                            workspace.data()});
    return dtable.bits();
  });
}

TEST(RowsTest, AnyArrayMayBeMisaligned) {
  const std::int64_t count = 7, width = 132, rows = 70;
  const auto indices = random_indices(rows, count);
  Shared<std::int64_t> workspace(2 * rows);
  expect_same_for_any_alignment({count * width, rows * width}, [&](const auto& p) {
    run(test_device(), EmbeddingForward<float>{p[0], indices.data(), p[1], rows, width});
  });
  expect_same_for_any_alignment({count * width, rows * width}, [&](const auto& p) {
    run(test_device(),
        EmbeddingBackward<float>{p[1], indices.data(), p[0], rows, width, workspace.data()});
  });
  for (const std::int64_t x_stride : {width, width + 1, width + 4}) {
    for (const std::int64_t y_stride : {width, width + 1, width + 4}) {
      expect_same_for_any_alignment({rows * x_stride, rows * y_stride}, [&](const auto& p) {
        run(test_device(), CopyColumns<float>{p[0], x_stride, p[1], y_stride, rows, width});
      });
    }
  }
}

}  // namespace
}  // namespace cmir::kernels
