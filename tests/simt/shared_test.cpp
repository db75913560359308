// What the model finds in the use of shared memory: each kernel has one planted fault, or none.
#include <cmath>

#include "tests/simt/fault_test.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

using namespace testing;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

int reading_line, writing_line;  // set by kernels: where their planted fault is

__global__ void missing_barrier_kernel(float* y) {
  CMIR_SHARED(float, tile, [64]);
  tile[threadIdx.x] = 1.0F;
  reading_line = __LINE__ + 1;
  y[threadIdx.x] = tile[63 - threadIdx.x];
}

TEST(Shared, AMissingBarrierIsFound) {
  const ScheduleScope in_order(Schedule{});
  std::vector<float> y(128);
  const auto message = [&] { return fault_message(missing_barrier_kernel, {1, 64}, y.data()); };
  under_every_schedule(
      [&] { EXPECT_THAT(message(), StartsWith("missing_barrier_kernel: block ")); });
  EXPECT_EQ(message(), fmt::format("missing_barrier_kernel: block (0,0,0), thread (0,0,0), "
                                   "shared_test.cpp:{}: shared memory 'tile' element 63 is read "
                                   "before it is written",
                                   reading_line));
  const ScheduleScope scope({Schedule::Order::descending});
  EXPECT_THAT(message(), HasSubstr("thread (63,0,0), "));
}

__global__ void unwritten_kernel(float* y) {
  CMIR_SHARED(float, tile, [4][33]);
  if (threadIdx.x != 5) tile[blockIdx.x][threadIdx.x] = 1.0F;
  __syncthreads();
  y[threadIdx.x] = tile[blockIdx.x][threadIdx.x];
}

TEST(Shared, AReadBeforeAWriteIsFoundInEveryBlock) {
  std::vector<float> y(32);
  under_every_schedule([&] {
    EXPECT_THAT(fault_message(unwritten_kernel, {1, 32}, y.data()),
                AllOf(StartsWith("unwritten_kernel: block (0,0,0), thread (5,0,0), "),
                      HasSubstr("'tile' element 5 is read before it is written")));
  });
}

/// Only block 0 writes: what it left must not be seen by block 1.
__global__ void stale_kernel(float* y) {
  CMIR_SHARED(float, tile, [32]);
  if (blockIdx.x == 0) tile[threadIdx.x] = 1.0F;
  y[threadIdx.x] = tile[threadIdx.x];
}

TEST(Shared, NothingIsLeftFromTheBlockBefore) {
  const ScheduleScope in_order(Schedule{});
  std::vector<float> y(32);
  EXPECT_THAT(fault_message(stale_kernel, {2, 32}, y.data()),
              AllOf(StartsWith("stale_kernel: block (1,0,0), thread (0,0,0)"),
                    HasSubstr("read before it is written")));
}

/// 0: two threads of two warps write; 1: of one warp; 2: one reads what the other warp then writes;
/// 3: what another lane of its own warp writes; 4: both warps read, and the warp operation orders
/// the write behind one of the two reads only.
template <int Kind>
__global__ void race_kernel(float* y) {
  CMIR_SHARED(float, tile, [64]);
  tile[threadIdx.x] = 0.0F;
  __syncthreads();
  if constexpr (Kind == 0) {
    writing_line = __LINE__ + 1;
    if (threadIdx.x % 32 == 3) tile[7] = 1.0F;
  } else if constexpr (Kind == 1) {
    if (threadIdx.x == 3 || threadIdx.x == 4) tile[7] = 1.0F;
  } else if constexpr (Kind == 4) {
    if (threadIdx.x == 7 || threadIdx.x == 40) y[threadIdx.x] = tile[7];
    __syncwarp();
    if (threadIdx.x == 20) tile[7] = 1.0F;
  } else {
    reading_line = __LINE__ + 1;
    if (threadIdx.x < 32) y[threadIdx.x] = tile[threadIdx.x];
    writing_line = __LINE__ + 1;
    if (threadIdx.x == (Kind == 2 ? 40 : 20)) tile[7] = 1.0F;
  }
}

TEST(Shared, RacesAreFoundBetweenWarpsAndWithinOne) {
  const ScheduleScope in_order(Schedule{});
  std::vector<float> y(64);
  under_every_schedule([&] {
    for (auto* kernel :
         {&race_kernel<0>, &race_kernel<1>, &race_kernel<2>, &race_kernel<3>, &race_kernel<4>}) {
      EXPECT_THAT(
          fault_message(kernel, {1, 64}, y.data()),
          AllOf(StartsWith("race_kernel<"), HasSubstr("race on shared memory 'tile' element 7: "),
                HasSubstr("with no barrier between")));
    }
  });
  const std::string first = fault_message(race_kernel<0>, {1, 64}, y.data());
  EXPECT_EQ(first,
            fmt::format("race_kernel<0>: block (0,0,0), thread (35,0,0), shared_test.cpp:{}: "
                        "race on shared memory 'tile' element 7: written here, written by "
                        "thread (3,0,0), shared_test.cpp:{}, with no barrier between",
                        writing_line, writing_line));
  const std::string last = fault_message(race_kernel<2>, {1, 64}, y.data());
  EXPECT_THAT(last, HasSubstr(fmt::format("thread (40,0,0), shared_test.cpp:{}: ", writing_line)));
  EXPECT_THAT(last, HasSubstr(fmt::format("element 7: written here, read by thread (7,0,0), "
                                          "shared_test.cpp:{}",
                                          reading_line)));
}

/// Neighbours exchange through shared memory within the warp; `Sync` orders them.
template <bool Sync>
__global__ void warp_exchange_kernel(int* y) {
  CMIR_SHARED(int, tile, [64]);
  const unsigned t = threadIdx.x;
  for (int round = 0; round < 3; ++round) {
    tile[t] = static_cast<int>(t) + round;
    if (Sync) __syncwarp();
    y[t] = tile[t ^ 1];
    if (Sync) __syncwarp();
  }
}

/// Two lanes at a time are brought together: enough for what these two exchange.
template <bool Right>
__global__ void pair_exchange_kernel(int* y) {
  CMIR_SHARED(int, tile, [32]);
  const unsigned t = threadIdx.x;
  tile[t] = static_cast<int>(t);
  __syncwarp(3u << t / 2 * 2);
  y[t] = tile[Right ? t ^ 1 : t ^ 2];
}

TEST(Shared, WarpOperationsOrderTheirLanesOnly) {
  std::vector<int> y(64);
  under_every_schedule([&] {
    EXPECT_EQ(fault_message(warp_exchange_kernel<true>, {1, 64}, y.data()), "");
    for (int t = 0; t < 64; ++t) EXPECT_EQ(y[t], (t ^ 1) + 2);
    EXPECT_NE(fault_message(warp_exchange_kernel<false>, {1, 64}, y.data()), "");
    EXPECT_EQ(fault_message(pair_exchange_kernel<true>, {1, 32}, y.data()), "");
    EXPECT_NE(fault_message(pair_exchange_kernel<false>, {1, 32}, y.data()), "");
  });
}

/// A warp-wide tree reduction in shared memory: reads and writes of neighbours alternate.
__global__ void tree_kernel(float* y) {
  CMIR_SHARED(float, partial, [32]);
  const unsigned t = threadIdx.x;
  partial[t] = static_cast<float>(t);
  __syncwarp();
  for (unsigned half = 16; half > 0; half /= 2) {
    const float other = t < half ? partial[t + half] : 0.0F;
    __syncwarp();
    if (t < half) partial[t] += other;
    __syncwarp();
  }
  if (t == 0) *y = partial[0];
}

TEST(Shared, AWarpsTreeReductionIsNoRace) {
  float y = 0;
  under_every_schedule([&] {
    EXPECT_EQ(fault_message(tree_kernel, {1, 32}, &y), "");
    EXPECT_EQ(y, 496.0F);
  });
}

template <int Kind>
__global__ void bounds_kernel(int index) {
  CMIR_SHARED(float, tile, [4][8]);
  CMIR_DYNAMIC_SHARED(double, buffer);
  if (threadIdx.x != 1) return;
  if constexpr (Kind == 0) {
    tile[0][index] = 1.0F;
  } else if constexpr (Kind == 1) {
    tile[index][0] = 1.0F;
  } else if constexpr (Kind == 2) {
    buffer[index] = 1.0;
  } else if constexpr (Kind == 3) {
    store_vector(&tile[0][1], Vector<float, 4>{});
  }
}

TEST(Shared, IndicesAreCheckedAgainstTheirOwnExtent) {
  const LaunchConfig config{1, 2, 64};
  EXPECT_EQ(fault_message(bounds_kernel<0>, config, 7), "");
  EXPECT_THAT(fault_message(bounds_kernel<0>, config, 8),
              AllOf(StartsWith("bounds_kernel<0>: block (0,0,0), thread (1,0,0), shared_test.cpp:"),
                    HasSubstr("'tile': index 8 is out of bounds of an extent of 8")));
  EXPECT_THAT(fault_message(bounds_kernel<1>, config, -1),
              HasSubstr("index -1 is out of bounds of an extent of 4"));
  EXPECT_EQ(fault_message(bounds_kernel<2>, config, 7), "");
  EXPECT_THAT(fault_message(bounds_kernel<2>, config, 8),
              HasSubstr("'buffer' element 8 is out of bounds: 8 bytes at byte 64 of 64"));
  EXPECT_THAT(fault_message(bounds_kernel<2>, config, -1), HasSubstr("element -1"));
  EXPECT_THAT(fault_message(bounds_kernel<3>, config, 0), HasSubstr("16 bytes is misaligned"));
}

/// Two arrays of two types in the dynamic shared memory.
__global__ void dynamic_kernel(float* y) {
  CMIR_DYNAMIC_SHARED(float, sums);
  const auto halves = shared_cast<BFloat16>(sums + blockDim.x);
  const unsigned t = threadIdx.x;
  halves[t] = BFloat16(static_cast<float>(t));  // neighbours share four bytes
  sums[t] = 1.0F;
  __syncthreads();
  sums[t] += float(halves[blockDim.x - 1 - t]);
  y[t] = sums[t];
}

TEST(Shared, DynamicMemoryHoldsArraysOfSeveralTypes) {
  std::vector<float> y(96), expected(96);
  for (int t = 0; t < 96; ++t) expected[t] = static_cast<float>(96 - t);
  under_every_schedule([&] {
    EXPECT_EQ(fault_message(dynamic_kernel, {2, 96, 96 * 6}, y.data()), "");
    EXPECT_EQ(y, expected);
  });
}

template <int Bytes>
__global__ void large_kernel() {
  CMIR_SHARED(std::uint8_t, large, [Bytes]);
  large[threadIdx.x] = std::uint8_t{1};
}

TEST(Shared, TheGpusLimitsHold) {
  EXPECT_EQ(fault_message(large_kernel<49152>, {1, 1}), "");
  EXPECT_THAT(fault_message(large_kernel<49153>, {1, 1}),
              HasSubstr("49153 bytes of static shared memory with 'large', the limit is 49152"));
  EXPECT_EQ(fault_message(large_kernel<1024>, {1, 1, 226 * 1024}), "");
  EXPECT_THAT(fault_message(large_kernel<1025>, {1, 1, 226 * 1024}),
              HasSubstr("232449 bytes of static and dynamic shared memory"));
  EXPECT_THAT(fault_message(large_kernel<1>, {1, 1, 232449}),
              HasSubstr("232449 bytes of dynamic shared memory, the limit is 232448"));
}

/// A histogram; `Plain` has one thread read while the others count.
template <bool Plain>
__global__ void histogram_kernel(int* y) {
  CMIR_SHARED(int, counts, [4]);
  if (threadIdx.x < 4) counts[threadIdx.x] = 0;
  __syncthreads();
  if (Plain && threadIdx.x == 9) {
    y[0] = counts[1];
  } else {
    atomicAdd(&counts[threadIdx.x % 4], 1);
  }
  __syncthreads();
  if (threadIdx.x < 4) y[threadIdx.x] = counts[threadIdx.x];
}

TEST(Shared, AtomicsDoNotRaceWithOneAnotherButWithPlainReads) {
  std::vector<int> y(4);
  under_every_schedule([&] {
    EXPECT_EQ(fault_message(histogram_kernel<false>, {1, 64}, y.data()), "");
    EXPECT_EQ(y, std::vector<int>(4, 16));
    EXPECT_THAT(fault_message(histogram_kernel<true>, {1, 64}, y.data()), HasSubstr("race"));
  });
}

__global__ void poison_kernel(float* y) {
  CMIR_SHARED(float, tile, [4]);
  y[threadIdx.x] = tile.data()[threadIdx.x];
}

TEST(Shared, ARawPointerSeesPoisonAndIsNotWatched) {
  std::vector<float> y(4);
  EXPECT_EQ(fault_message(poison_kernel, {1, 4}, y.data()), "");
  for (const float value : y) EXPECT_TRUE(std::isnan(value));
}

/// Element access in the ways that kernels write it.
__global__ void expressions_kernel(float* y) {
  CMIR_SHARED(float, tile, [8]);
  CMIR_SHARED(int, index, [2]);
  index[0] = 1;
  index[1] = index[0];
  index[1]++;
  tile[0] = 2;
  tile[index[0]] = tile[0] * 3.0F;
  tile[index[1]] = max(tile[0], tile[1]) + fmaxf(tile[0], 1.0F);
  tile[2] += 0.5F;
  tile[2] /= tile[0];
  SharedPointer<const float> p = tile + 1;
  y[0] = p[1] + *p;
  y[1] = index[1] == 2 ? tile[1] : 0.0F;
  y[2] = fmaf(tile[0], p[0], -tile[1]);
}

TEST(Shared, ElementsBehaveAsTheirValues) {
  std::vector<float> y(3);
  EXPECT_EQ(fault_message(expressions_kernel, {1, 1}, y.data()), "");
  EXPECT_EQ(y, (std::vector<float>{4.25F + 6.0F, 6.0F, 6.0F}));
}

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
