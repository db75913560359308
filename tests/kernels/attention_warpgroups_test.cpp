// Attention's kernels for warpgroups (sm_90a), on the host model and on a GPU that has them: long
// samples in bf16, against plain loops in f64 and against the kernels on mma.sync.
#include <cstdlib>

#include "kernels/attention/attention_launch.h"
#include "kernels/simt/grid.h"
#include "kernels/simt/schedule.h"
#include "tests/kernels/attention_batch.h"
#include "tests/kernels/outputs_test.h"

namespace cmir::kernels {
namespace {

using namespace testing;

/// CMIR_WARPGROUPS=0 until the end of the scope.
struct WithoutWarpgroups {
  WithoutWarpgroups() { setenv("CMIR_WARPGROUPS", "0", 1); }
  ~WithoutWarpgroups() { unsetenv("CMIR_WARPGROUPS"); }
};

/// Of the device under test; a build for it is taken for granted.
bool has_warpgroups() {
  if (test_device().type == DeviceType::simt) return true;
  const cuda::DeviceProperties gpu = cuda::properties(0);
  return gpu.major == 9 && gpu.minor == 0;
}

bool ran_warpgroups(const std::string& kernel) {
  return simt::kernels_run().contains("attention_" + kernel + "_warpgroup_kernel");
}

/// About the edges of 64 rows of a warpgroup, 128 of a block and of a forward tile, 64 of a
/// backward one; widths of one panel and of two, whole and not; with short samples among the long.
const Case kCases[] = {
    {{128, 3, 129}, {128, 200, 257}, 2, 64, false, 0, 0.1},
    {{191, 128}, {130, 127}, 3, 40, true, 0, 0.15},
    {{130}, {128}, 1, 128, false, 0.25F, 0.1},
    {{257}, {131}, 2, 96, true, 0.3F, 0.1},  // the first 126 queries see no key
    {{128, 0, 160}, {320, 5, 0}, 2, 72, true, 0, 0.1},
};

double largest_of(const std::vector<double>& values) {
  double largest = 0;
  for (const double x : values) {
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  }
  return largest;
}

template <class Array>
void expect_near(Array& actual, const std::vector<double>& expected, const char* what) {
  const double bound = 2e-2 * largest_of(expected);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double x = expected[i], y = actual[static_cast<std::int64_t>(i)];
    if (std::isfinite(x)) {
      ASSERT_LE(std::abs(y - x), bound) << what << " element " << i << " is " << y << ", not " << x;
    } else {
      ASSERT_TRUE(std::isnan(x) ? std::isnan(y) : x == y) << what << " element " << i << " " << y;
    }
  }
}

void expect_like_f64(const Case& c, std::int64_t gap) {
  Batch<BFloat16> b(c, gap);
  b.run_forward();
  b.run_backward();
  const Expected e = oracle(b);
  expect_near(b.output, e.output, "output");
  expect_near(b.log_sum_exp, e.log_sum_exp, "log_sum_exp");
  expect_near(b.dquery, e.dquery, "dquery");
  expect_near(b.dkey, e.dkey, "dkey");
  expect_near(b.dvalue, e.dvalue, "dvalue");
}

TEST(AttentionWarpgroupsTest, LongSamplesAreWithin2em2) {
  for_each_cuda_device([] {
    for (const Case& c : kCases) {
      expect_like_f64(c, 0);
      expect_like_f64(c, 8);
    }
  });
  EXPECT_TRUE(ran_warpgroups("forward"));
  EXPECT_TRUE(ran_warpgroups("backward"));
}

/// The two ways have running maxima of their own, and so round the weights at different places.
TEST(AttentionWarpgroupsTest, AreNearTheKernelsWithout) {
  for_each_cuda_device([] {
    const Case c{{300}, {200}, 2, 64, false, 0.2F, 0.1};
    Batch<BFloat16> with(c), without(c);
    with.run_forward();
    with.run_backward();
    const WithoutWarpgroups scope;
    without.run_forward();
    without.run_backward();
    const auto near = [](auto& a, auto& b, const char* what) {
      double largest = 0, difference = 0;
      for (std::size_t i = 0; i < a.span().size(); ++i) {
        largest = std::max<double>(largest, std::abs(b.span()[i]));
        difference = std::max<double>(difference, std::abs(a.span()[i] - b.span()[i]));
      }
      EXPECT_LE(difference, 1e-2 * largest) << what;
      return difference;
    };
    const bool differ = has_warpgroups();
    EXPECT_EQ(near(with.output, without.output, "output") > 0, differ);
    EXPECT_EQ(near(with.dquery, without.dquery, "dquery") > 0, differ);
    EXPECT_EQ(near(with.dkey, without.dkey, "dkey") > 0, differ);
    near(with.dvalue, without.dvalue, "dvalue");
  });
}

TEST(AttentionWarpgroupsTest, ASampleGivesTheSameBitsAloneAndInABatch) {
  for_each_cuda_device([] {
    const Case c{{5, 129, 130}, {300, 140, 128}, 1, 64, true, 0, 0.1};
    Batch<BFloat16> b(c);
    b.run_forward();
    b.run_backward();
    for (std::size_t s = 0; s < c.queries.size(); ++s) {
      Batch<BFloat16> alone({{c.queries[s]}, {c.keys[s]}, 1, 64, true, 0, 0.1});
      const auto part = [&](auto& whole, const Offsets& offsets) {
        return whole.span().subspan(offsets[s] * 64, (offsets[s + 1] - offsets[s]) * 64);
      };
      std::ranges::copy(part(b.query, b.query_offsets), alone.query.data());
      std::ranges::copy(part(b.doutput, b.query_offsets), alone.doutput.data());
      std::ranges::copy(part(b.key, b.key_offsets), alone.key.data());
      std::ranges::copy(part(b.value, b.key_offsets), alone.value.data());
      alone.run_forward();
      alone.run_backward();
      EXPECT_TRUE(std::ranges::equal(part(b.output, b.query_offsets), alone.output.span())) << s;
      EXPECT_TRUE(std::ranges::equal(part(b.dquery, b.query_offsets), alone.dquery.span())) << s;
      EXPECT_TRUE(std::ranges::equal(part(b.dkey, b.key_offsets), alone.dkey.span())) << s;
      EXPECT_TRUE(std::ranges::equal(part(b.dvalue, b.key_offsets), alone.dvalue.span())) << s;
    }
  });
}

/// What a box copies from the next sample is not seen.
TEST(AttentionWarpgroupsTest, NaNStaysInItsSample) {
  for_each_cuda_device([] {
    Batch<BFloat16> b({{130, 130}, {140, 140}, 1, 64, false, 0, 0.1});
    for (auto* x : {&b.query, &b.key, &b.value, &b.doutput}) {
      const std::int64_t first = x == &b.query || x == &b.doutput ? 130 : 140;
      for (std::int64_t i = first * 64; i < 2 * first * 64; ++i) (*x)[i] = BFloat16(std::nanf(""));
    }
    b.run_forward();
    b.run_backward();
    const auto expect_finite = [](auto& x, std::int64_t rows) {
      for (std::int64_t i = 0; i < rows * 64; ++i) ASSERT_TRUE(std::isfinite(x[i])) << i;
      EXPECT_TRUE(std::isnan(x[rows * 64]));
    };
    expect_finite(b.output, 130);
    expect_finite(b.dquery, 130);
    expect_finite(b.dkey, 140);
    expect_finite(b.dvalue, 140);
  });
}

TEST(AttentionWarpgroupsTest, SameBitsUnderEverySchedule) {
  for_each_cuda_device([] {
    if (test_device().type != DeviceType::simt) return;
    simt::expect_same_under_schedules([] {
      Batch<BFloat16> b({{129}, {200}, 1, 64, false, 0.2F, 0.1});
      b.run_forward();
      b.run_backward();
      return joined(b.output, b.log_sum_exp, b.dquery, b.dkey, b.dvalue);
    });
  });
}

/// One problem's rows begin at 8 bytes, which no bulk copy takes; the other's bits are its own.
TEST(AttentionWarpgroupsTest, AGroupGivesTheBitsOfItsProblems) {
  for_each_cuda_device([] {
    const Case c{{128}, {130}, 1, 64, false, 0, 0.1};
    Batch<BFloat16> a(c), unaligned(c, 4), alone(c), unaligned_alone(c, 4);
    run_group<BFloat16>({&unaligned, &a});
    run_group<BFloat16>({&alone});
    run_group<BFloat16>({&unaligned_alone});
    EXPECT_TRUE(std::ranges::equal(a.output.span(), alone.output.span()));
    EXPECT_TRUE(std::ranges::equal(a.log_sum_exp.span(), alone.log_sum_exp.span()));
    EXPECT_TRUE(std::ranges::equal(a.dquery.span(), alone.dquery.span()));
    EXPECT_TRUE(std::ranges::equal(a.dkey.span(), alone.dkey.span()));
    EXPECT_TRUE(std::ranges::equal(a.dvalue.span(), alone.dvalue.span()));
    EXPECT_TRUE(std::ranges::equal(unaligned.output.span(), unaligned_alone.output.span()));
  });
}

}  // namespace
}  // namespace cmir::kernels
