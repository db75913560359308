// The twins of kernels/cuda/warpgroup.h against plain copies and products, and what they find
// wrong. Where a byte of a swizzled panel lies is written out here, not taken from the twins.
#include "kernels/cuda/warpgroup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/philox.h"
#include "kernels/cuda/tensor_map.h"
#include "kernels/simt/schedule.h"
#include "tests/simt/fault_test.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

using ::testing::HasSubstr;

/// [rows, columns], rounded to bf16.
struct Matrix {
  std::int64_t rows, columns;
  std::vector<BFloat16> elements;

  Matrix(std::int64_t row_count, std::int64_t column_count, std::uint64_t seed)
      : rows(row_count), columns(column_count), elements(row_count * column_count) {
    const RandomStream stream{.seed = seed};
    for (std::size_t i = 0; i < elements.size(); ++i) elements[i] = BFloat16(stream.normal(i));
  }
  double at(std::int64_t r, std::int64_t c) const {
    return static_cast<float>(elements[r * columns + c]);
  }
};

constexpr int kPanel = 64 * 64;  ///< elements of a box

/// The element of a panel where (row, column) lies: the 16-byte piece is xored with the row.
int panel_element(int row, int column) {
  return row * 64 + ((column / 8) ^ (row % 8)) * 8 + column % 8;
}

/// For that many arrivals. All threads call, and meet.
__device__ void start_barrier(const SharedPointer<Mbarrier>& barrier, unsigned count) {
  if (threadIdx.x == 0) {
    mbarrier_init(barrier, count);
    fence_mbarrier_init();
  }
  __syncthreads();
}

/// Starts to copy a box to `panel`.
__device__ void load_box(const SharedPointer<BFloat16>& panel, const TensorMap& map, int feature,
                         int head, int row, const SharedPointer<Mbarrier>& barrier) {
  if (threadIdx.x == 0) {
    mbarrier_arrive_expecting(barrier, kPanel * sizeof(BFloat16));
    copy_tensor_box(panel, map, feature, head, row, barrier);
  }
}

__global__ void box_kernel(TensorMap map, int feature, int head, int row, BFloat16* out) {
  CMIR_DYNAMIC_SHARED(BFloat16, panel);
  CMIR_SHARED(Mbarrier, barrier, [1]);
  start_barrier(barrier, 1);
  load_box(panel, map, feature, head, row, barrier);
  mbarrier_wait(barrier, 0);
  for (int i = static_cast<int>(threadIdx.x); i < kPanel; i += 32) out[i] = panel[i];
}

TEST(WarpgroupTest, ABoxIsSwizzledAndFilledUpWithZeros) {
  const int rows = 70, heads = 3, width = 72;
  const Matrix matrix(rows, heads * width + 8, 1);
  const TensorMap map = make_tensor_map(matrix.elements.data(), width, heads, rows, matrix.columns);
  for (const auto& [feature, row] : {std::pair{0, 0}, {64, 0}, {0, 30}, {64, 69}}) {
    std::vector<BFloat16> panel(kPanel);
    launch(box_kernel, {.grid = dim3(1), .block = dim3(32), .shared_bytes = 2 * kPanel}, map,
           feature, 1, row, panel.data());
    for (int r = 0; r < 64; ++r) {
      for (int c = 0; c < 64; ++c) {
        const bool inside = row + r < rows && feature + c < width;
        const double expected = inside ? matrix.at(row + r, width + feature + c) : 0.0;
        ASSERT_EQ(static_cast<float>(panel[panel_element(r, c)]), expected) << r << " " << c;
      }
    }
  }
}

/// D [64, 8 kTiles] = A B^T (+ D), or A B, depth 64, by four steps; a and b are 64 rows each,
/// b with 8 kTiles columns where it is not transposed.
template <int kTiles, bool kRows>
__global__ void product_kernel(TensorMap a, TensorMap b, float* out) {
  CMIR_DYNAMIC_SHARED(BFloat16, memory);
  CMIR_SHARED(Mbarrier, barrier, [1]);
  constexpr int panels = kTiles / 8;
  start_barrier(barrier, 1 + panels);
  load_box(memory, a, 0, 0, 0, barrier);
  for (int i = 0; i < panels; ++i) {
    load_box(memory + (1 + i) * kPanel, b, kRows ? 0 : 64 * i, 0, kRows ? 64 * i : 0, barrier);
  }
  mbarrier_wait(barrier, 0);
  float sums[kTiles][4];
  for (int n = 0; n < kTiles; ++n) {
    for (int e = 0; e < 4; ++e) sums[n][e] = kRows ? std::nanf("") : 1.0F;
  }
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  wgmma_fence(sums);
  for (int k = 0; k < 64; k += 16) {
    if constexpr (kRows) {
      warpgroup_multiply(sums, matrix_descriptor(memory + k, 16, 1024),
                         matrix_descriptor(memory + (kPanel + k), 16, 1024), k > 0);
    } else {
      unsigned left[4];
      for (unsigned r = 0; r < 4; ++r) {
        const auto row = static_cast<int>(16 * warp + lane / 4 + r % 2 * 8);
        const int column = k + static_cast<int>(lane % 4 * 2 + r / 2 * 8);
        const float low(memory[panel_element(row, column)]);
        const float high(memory[panel_element(row, column + 1)]);
        left[r] = pack_bf16(low, high);
      }
      warpgroup_multiply(sums, left,
                         matrix_descriptor(memory + (kPanel + k * 64), 2 * kPanel, 1024));
    }
  }
  wgmma_commit();
  wgmma_wait<0>(sums);
  for (unsigned n = 0; n < kTiles; ++n) {
    for (unsigned e = 0; e < 4; ++e) {
      const unsigned row = 16 * warp + lane / 4 + e / 2 * 8, column = 8 * n + lane % 4 * 2 + e % 2;
      out[row * 8 * kTiles + column] = sums[n][e];
    }
  }
}

template <int kTiles, bool kRows>
void expect_product() {
  const int columns = 8 * kTiles;
  const Matrix a(64, 64, 1), b(kRows ? columns : 64, kRows ? 64 : columns, 2);
  const auto map = [](const Matrix& m) {
    return make_tensor_map(m.elements.data(), m.columns, 1, m.rows, m.columns);
  };
  const auto d = expect_same_under_schedules([&] {
    std::vector<float> out(64 * columns);
    launch(product_kernel<kTiles, kRows>,
           {.grid = dim3(1), .block = dim3(128), .shared_bytes = 2 * kPanel * (1 + kTiles / 8)},
           map(a), map(b), out.data());
    return out;
  });
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < columns; ++j) {
      double expected = kRows ? 0 : 1;
      for (int k = 0; k < 64; ++k) expected += a.at(i, k) * (kRows ? b.at(j, k) : b.at(k, j));
      ASSERT_NEAR(d[i * columns + j], expected, 1e-4) << i << " " << j;
    }
  }
}

TEST(WarpgroupTest, RowsTimesRowsAreExact) {
  expect_product<8, true>();
  expect_product<16, true>();
}
TEST(WarpgroupTest, WeightsTimesRowsAreExact) {
  expect_product<8, false>();
  expect_product<16, false>();
}

/// D [64, 128] = A B of factors in shared memory, depth 64: a is 64 rows, transposed where
/// kMnMajorA, b is 64 rows of 128 columns.
template <bool kMnMajorA>
__global__ void columns_kernel(TensorMap a, TensorMap b, float* out) {
  CMIR_DYNAMIC_SHARED(BFloat16, memory);
  CMIR_SHARED(Mbarrier, barrier, [1]);
  start_barrier(barrier, 3);
  load_box(memory, a, 0, 0, 0, barrier);
  for (int i = 0; i < 2; ++i) load_box(memory + (1 + i) * kPanel, b, 64 * i, 0, 0, barrier);
  mbarrier_wait(barrier, 0);
  float sums[16][4];
  wgmma_fence(sums);
  for (int k = 0; k < 64; k += 16) {
    warpgroup_multiply<kMnMajorA, true>(
        sums, matrix_descriptor(memory + (kMnMajorA ? 64 * k : k), 2 * kPanel, 1024),
        matrix_descriptor(memory + (kPanel + k * 64), 2 * kPanel, 1024), k > 0);
  }
  wgmma_commit();
  wgmma_wait<0>(sums);
  for (unsigned i = 0; i < 64; ++i) {
    const unsigned row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + i % 4 / 2 * 8;
    out[row * 128 + i / 4 * 8 + threadIdx.x % 4 * 2 + i % 2] = sums[i / 4][i % 4];
  }
}

template <bool kMnMajorA>
void expect_product_of_columns() {
  const Matrix a(64, 64, 1), b(64, 128, 2);
  const auto map = [](const Matrix& m) {
    return make_tensor_map(m.elements.data(), m.columns, 1, m.rows, m.columns);
  };
  std::vector<float> d(64 * 128);
  launch(columns_kernel<kMnMajorA>,
         {.grid = dim3(1), .block = dim3(128), .shared_bytes = 6 * kPanel}, map(a), map(b),
         d.data());
  for (int i = 0; i < 64; ++i) {
    for (int j = 0; j < 128; ++j) {
      double expected = 0;
      for (int k = 0; k < 64; ++k) expected += (kMnMajorA ? a.at(k, i) : a.at(i, k)) * b.at(k, j);
      ASSERT_NEAR(d[i * 128 + j], expected, 1e-4) << i << " " << j;
    }
  }
}

TEST(WarpgroupTest, RowsAndColumnsTimesColumnsAreExact) {
  expect_product_of_columns<false>();
  expect_product_of_columns<true>();
}

template <int kWait>
__global__ void unfinished_kernel(TensorMap map) {
  CMIR_DYNAMIC_SHARED(BFloat16, panel);
  CMIR_SHARED(Mbarrier, barrier, [1]);
  start_barrier(barrier, 1);
  load_box(panel, map, 0, 0, 0, barrier);
  mbarrier_wait(barrier, 0);
  float sums[8][4];
  for (int group = 0; group < 2; ++group) {
    warpgroup_multiply(sums, matrix_descriptor(panel, 16, 1024), matrix_descriptor(panel, 16, 1024),
                       group > 0);
    wgmma_commit();
  }
  wgmma_wait<kWait>(sums);
}

TEST(WarpgroupTest, ProductsThatNobodyWaitsForAreFound) {
  const Matrix matrix(64, 64, 3);
  const TensorMap map = make_tensor_map(matrix.elements.data(), 64, 1, 64, 64);
  const LaunchConfig config{.grid = dim3(1), .block = dim3(128), .shared_bytes = 2 * kPanel};
  EXPECT_EQ(testing::fault_message(unfinished_kernel<0>, config, map), "");
  EXPECT_THAT(testing::fault_message(unfinished_kernel<1>, config, map),
              HasSubstr("without having waited for its warpgroup's products"));
}

enum class Mistake { none, reads_early, overwrites, never_arrives, announces_less, no_barrier };

/// A thread copies two boxes to one place, one after another; the others read each.
__global__ void pipeline_kernel(TensorMap map, Mistake mistake, float* out) {
  CMIR_DYNAMIC_SHARED(BFloat16, panel);
  CMIR_SHARED(Mbarrier, barriers, [2]);
  const SharedPointer<Mbarrier> full = barriers, empty = full + 1;
  if (threadIdx.x == 0 && mistake != Mistake::no_barrier) {
    mbarrier_init(full, 1);
    mbarrier_init(empty, 1);
    fence_mbarrier_init();
  }
  __syncthreads();
  const unsigned warp = threadIdx.x / 32;
  for (int i = 0; i < 2; ++i) {
    const auto parity = static_cast<unsigned>(i);
    if (warp == 0) {
      // One thread: another that lags behind could wait for a phase that has passed twice.
      if (threadIdx.x != 0) continue;
      if (mistake != Mistake::overwrites) mbarrier_wait(empty, parity ^ 1);
      if (mistake == Mistake::never_arrives) continue;
      if (mistake == Mistake::announces_less) {
        mbarrier_arrive_expecting(full, 16);
        copy_tensor_box(panel, map, 0, 0, 64 * i, full);
        continue;
      }
      load_box(panel, map, 0, 0, 64 * i, full);
    } else {
      if (mistake != Mistake::reads_early) mbarrier_wait(full, parity);
      if (threadIdx.x == 32) out[i] = static_cast<float>(panel[0]);
      __syncwarp();
      if (threadIdx.x == 32) mbarrier_arrive(empty);
    }
  }
}

std::string fault_of(Mistake mistake) {
  const Matrix matrix(128, 64, 3);
  const TensorMap map = make_tensor_map(matrix.elements.data(), 64, 1, 128, 64);
  std::string message;
  for (const Schedule& schedule : tried_schedules()) {
    const ScheduleScope scope(schedule);
    float out[2] = {};
    try {
      launch(pipeline_kernel, {.grid = dim3(1), .block = dim3(64), .shared_bytes = 2 * kPanel}, map,
             mistake, out);
      EXPECT_EQ(out[0], matrix.at(0, 0));
      EXPECT_EQ(out[1], matrix.at(64, 0));
    } catch (const Error& error) {
      message = error.what();
    }
  }
  return message;
}

TEST(WarpgroupTest, FindsWhatIsWrongWithAPipeline) {
  EXPECT_EQ(fault_of(Mistake::none), "");
  EXPECT_THAT(fault_of(Mistake::reads_early), HasSubstr("is read before it is written"));
  EXPECT_THAT(fault_of(Mistake::overwrites), HasSubstr("more than 1 arrivals in a phase"));
  EXPECT_THAT(fault_of(Mistake::never_arrives), HasSubstr("mbarrier_wait is not reached"));
  EXPECT_THAT(fault_of(Mistake::announces_less), HasSubstr("more bytes have come"));
  EXPECT_THAT(fault_of(Mistake::no_barrier), HasSubstr("no barrier was initialised"));
}

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
