#include "kernels/pool/mean_pool.h"

#include "tests/kernels/packed_test.h"
#include "tests/kernels/schedules_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

template <class T>
class MeanPoolTest : public ::testing::Test {};
using Scalars = ::testing::Types<float, double>;
TYPED_TEST_SUITE(MeanPoolTest, Scalars);

TYPED_TEST(MeanPoolTest, MatchesTheFormula) {
  using T = TypeParam;
  for_each_variant<TypeParam>([] {
    for (const auto& lengths :
         {kRaggedLengths, {1}, {0, 0}, {600}, std::vector<std::int64_t>(300, 7)}) {
      for (const std::int64_t width : {1, 5, 20, 47, 150}) {
        const auto offsets = offsets_of(lengths);
        const std::int64_t rows = offsets.back(),
                           samples = static_cast<std::int64_t>(lengths.size());
        Guarded<T> x(normals(rows * width, 1)), dy(normals(samples * width, 2)), y(samples * width),
            dx(rows * width);
        run(test_device(), MeanPoolForward<T>{x.data(), offsets.data(), y.data(), samples, width});
        run(test_device(),
            MeanPoolBackward<T>{dy.data(), offsets.data(), dx.data(), samples, width});
        std::vector<double> y0(samples * width), dx0(rows * width);
        for (std::int64_t s = 0; s < samples; ++s) {
          for (std::int64_t r = offsets[s]; r < offsets[s + 1]; ++r) {
            for (std::int64_t j = 0; j < width; ++j) {
              y0[s * width + j] += static_cast<double>(x[r * width + j]) / lengths[s];
              dx0[r * width + j] = static_cast<double>(dy[s * width + j]) / lengths[s];
            }
          }
        }
        const std::string at = fmt::format("rows {} samples {} width {}", rows, samples, width);
        expect_close(y, y0, 4, 8, at + " y");
        expect_close(dx, dx0, 4, 2, at + " dx");
      }
    }
  });
}

TYPED_TEST(MeanPoolTest, ASampleGivesTheSameBitsAloneAndInABatch) {
  using T = TypeParam;
  const auto offsets = offsets_of(kRaggedLengths);
  const auto samples = static_cast<std::int64_t>(kRaggedLengths.size());
  for_each_variant<T>([&] {
    Guarded<T> x(normals(offsets.back() * 30, 1)), y(samples * 30);
    run(test_device(), MeanPoolForward<T>{x.data(), offsets.data(), y.data(), samples, 30});
    for (std::int64_t s = 0; s < samples; ++s) {
      const Shared<std::int64_t> own = {0, kRaggedLengths[s]};
      Guarded<T> alone(30);
      run(test_device(),
          MeanPoolForward<T>{x.data() + offsets[s] * 30, own.data(), alone.data(), 1, 30});
      EXPECT_EQ(std::memcmp(alone.data(), y.data() + s * 30, 30 * sizeof(T)), 0) << s;
    }
  });
}

TYPED_TEST(MeanPoolTest, SameBitsForAnyThreadCountAndSchedule) {
  using T = TypeParam;
  const auto offsets = offsets_of(std::vector<std::int64_t>(300, 50));
  expect_same_bits<TypeParam>([&] {
    Guarded<T> x(normals(300 * 50 * 5, 1)), y(300 * 5);
    run(test_device(), MeanPoolForward<T>{x.data(), offsets.data(), y.data(), 300, 5});
    run(test_device(), MeanPoolBackward<T>{y.data(), offsets.data(), x.data(), 300, 5});
    auto all = y.bits();
    const auto gradient = x.bits();
    all.insert(all.end(), gradient.begin(), gradient.end());
    return all;
  });
}

TEST(MeanPoolTest, AnyArrayMayBeMisaligned) {
  const auto offsets = offsets_of(kRaggedLengths);
  const auto samples = static_cast<std::int64_t>(kRaggedLengths.size());
  for (const std::int64_t width : {20, 30}) {
    const std::vector<std::int64_t> counts = {offsets.back() * width, samples * width};
    expect_same_for_any_alignment(counts, [&](const std::vector<float*>& p) {
      run(test_device(), MeanPoolForward<float>{p[0], offsets.data(), p[1], samples, width});
    });
    expect_same_for_any_alignment(counts, [&](const std::vector<float*>& p) {
      run(test_device(), MeanPoolBackward<float>{p[1], offsets.data(), p[0], samples, width});
    });
  }
}

}  // namespace
}  // namespace cmir::kernels
