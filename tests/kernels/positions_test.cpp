#include "kernels/positions/positions.h"

#include "tests/kernels/packed_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class PositionsTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(PositionsTest, Scalars);

TYPED_TEST(PositionsTest, MatchesTheFormula) {
  using T = TypeParam;
  const auto offsets = offsets_of(kRaggedLengths);
  const auto samples = static_cast<std::int64_t>(kRaggedLengths.size());
  const std::int64_t rows = offsets.back(), positions = 53;
  for_each_variant<TypeParam>([&] {
    for (const std::int64_t width : {1, 5, 20, 47, 150}) {
      Guarded<T> x(normals(rows * width, 1)), table(normals(positions * width, 2)),
          dy(normals(rows * width, 3)), y(rows * width), dtable(positions * width);
      run(test_device(), AddPositions<T>{x.data(), offsets.data(), table.data(), T(1.5), y.data(),
                                         samples, width});
      run(test_device(), PositionsBackwardTable<T>{dy.data(), offsets.data(), dtable.data(),
                                                   samples, positions, width});
      std::vector<double> y0(rows * width), dtable0(positions * width);
      for (std::int64_t s = 0; s < samples; ++s) {
        for (std::int64_t p = 0; p < kRaggedLengths[s]; ++p) {
          for (std::int64_t j = 0; j < width; ++j) {
            const std::int64_t i = (offsets[s] + p) * width + j;
            y0[i] = 1.5 * x[i] + table[p * width + j];
            dtable0[p * width + j] += dy[i];
          }
        }
      }
      expect_close(y, y0, 8, 2, fmt::format("width {} y", width));
      expect_close(dtable, dtable0, 12, 4, fmt::format("width {} dtable", width));
    }
  });
}

TYPED_TEST(PositionsTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  const auto offsets = offsets_of(std::vector<std::int64_t>(40, 37));
  expect_same_bits<TypeParam>([&] {
    Guarded<T> x(normals(40 * 37 * 20, 1)), table(normals(37 * 20, 2)), y(40 * 37 * 20),
        dtable(37 * 20);
    run(test_device(),
        AddPositions<T>{x.data(), offsets.data(), table.data(), T(2), y.data(), 40, 20});
    run(test_device(),
        PositionsBackwardTable<T>{x.data(), offsets.data(), dtable.data(), 40, 37, 20});
    auto all = y.bits();
    const auto gradient = dtable.bits();
    all.insert(all.end(), gradient.begin(), gradient.end());
    return all;
  });
}

TEST(PositionsTest, AnyArrayMayBeMisaligned) {
  const auto offsets = offsets_of(kRaggedLengths);
  const auto samples = static_cast<std::int64_t>(kRaggedLengths.size());
  const std::int64_t positions = 53;
  for (const std::int64_t width : {20, 30}) {
    const std::int64_t count = offsets.back() * width;
    expect_same_for_any_alignment(
        {count, positions * width, count}, [&](const std::vector<float*>& p) {
          run(test_device(),
              AddPositions<float>{p[0], offsets.data(), p[1], 1.5F, p[2], samples, width});
        });
    expect_same_for_any_alignment({count, positions * width}, [&](const std::vector<float*>& p) {
      run(test_device(),
          PositionsBackwardTable<float>{p[0], offsets.data(), p[1], samples, positions, width});
    });
  }
}

}  // namespace
}  // namespace cmir::kernels
