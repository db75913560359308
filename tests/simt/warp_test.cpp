// Barriers and warp operations: their results, and the faults in using them.
#include <numeric>

#include "kernels/cuda/ptx.h"
#include "tests/simt/fault_test.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

using namespace testing;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

enum class Shuffle { index, up, down, exclusive_or };

template <Shuffle Kind>
__global__ void shuffle_kernel(int operand, int width, int* y) {
  const int value = 100 + static_cast<int>(threadIdx.x);
  int result = 0;
  if constexpr (Kind == Shuffle::index) result = __shfl_sync(~0u, value, operand, width);
  if constexpr (Kind == Shuffle::up) result = __shfl_up_sync(~0u, value, operand, width);
  if constexpr (Kind == Shuffle::down) result = __shfl_down_sync(~0u, value, operand, width);
  if constexpr (Kind == Shuffle::exclusive_or) {
    result = __shfl_xor_sync(~0u, value, operand, width);
  }
  y[threadIdx.x] = result;
}

template <Shuffle Kind>
std::vector<int> shuffled(int operand, int width) {
  return expect_same_under_schedules([&] {
    std::vector<int> y(64);
    launch(shuffle_kernel<Kind>, LaunchConfig{1, 64}, operand, width, y.data());
    return y;
  });
}

/// The pseudo code of the PTX manual's shfl.sync, with its operands as nvcc sets them: c = segment
/// mask << 8 | clamp, where segment mask = 32 - width and clamp = 0 for up, else 31.
int ptx_source(Shuffle kind, int lane, int b, int width) {
  const int segment_mask = 32 - width, clamp = kind == Shuffle::up ? 0 : 31;
  const int maximum = (lane & segment_mask) | (clamp & ~segment_mask);
  const int minimum = lane & segment_mask;
  bool valid = false;
  int source = lane;
  switch (kind) {
    case Shuffle::up:
      source = lane - b;
      valid = source >= maximum;
      break;
    case Shuffle::down:
      source = lane + b;
      valid = source <= maximum;
      break;
    case Shuffle::exclusive_or:
      source = lane ^ b;
      valid = source <= maximum;
      break;
    case Shuffle::index:
      source = minimum | (b & ~segment_mask & 31);
      valid = source <= maximum;
      break;
  }
  return valid ? source : lane;
}

TEST(Warp, ShufflesFollowThePtxManualForEveryWidth) {
  for (const int width : {1, 2, 4, 8, 16, 32}) {
    for (const int operand : {0, 1, 2, 3, 7, 15, 16, 31}) {
      const auto expect = [&](Shuffle kind, const std::vector<int>& y) {
        for (int t = 0; t < 64; ++t) {
          EXPECT_EQ(y[t], 100 + t / 32 * 32 + ptx_source(kind, t % 32, operand, width))
              << "kind " << static_cast<int>(kind) << " width " << width << " operand " << operand
              << " thread " << t;
        }
      };
      expect(Shuffle::index, shuffled<Shuffle::index>(operand, width));
      expect(Shuffle::up, shuffled<Shuffle::up>(operand, width));
      expect(Shuffle::down, shuffled<Shuffle::down>(operand, width));
      expect(Shuffle::exclusive_or, shuffled<Shuffle::exclusive_or>(operand, width));
    }
  }
}

__global__ void votes_kernel(unsigned mask, unsigned* y) {
  const unsigned lane = threadIdx.x;
  if ((mask >> lane & 1) == 0) return;
  unsigned* out = y + lane * 9;
  out[0] = __ballot_sync(mask, lane % 3 == 0);
  out[1] = __any_sync(mask, lane == 6);
  out[2] = __all_sync(mask, lane < 30);
  out[3] = __match_any_sync(mask, lane % 4);
  out[4] = __reduce_add_sync(mask, lane);
  out[5] = __reduce_min_sync(mask, lane);
  out[6] = __reduce_max_sync(mask, lane);
  out[7] = static_cast<unsigned>(-__reduce_min_sync(mask, -static_cast<int>(lane)));
  out[8] = __any_sync(mask, 0);
}

TEST(Warp, VotesAndReductionsCoverTheMask) {
  for (const unsigned mask : {0xFFFFFFFFu, 0x0000FFFFu, 0x80000041u, 0x00000008u}) {
    unsigned threes = 0, sum = 0, low = 99, high = 0;
    std::vector<unsigned> match(4, 0);
    for (unsigned lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      if (lane % 3 == 0) threes |= 1u << lane;
      match[lane % 4] |= 1u << lane;
      sum += lane;
      low = std::min(low, lane);
      high = std::max(high, lane);
    }
    std::vector<unsigned> y(32 * 9);
    under_every_schedule([&] {
      EXPECT_EQ(fault_message(votes_kernel, {1, 32}, mask, y.data()), "");
      for (unsigned lane = 0; lane < 32; ++lane) {
        if ((mask >> lane & 1) == 0) continue;
        const std::vector<unsigned> expected = {
            threes, mask >> 6 & 1, high < 30, match[lane % 4], sum, low, high, high, 0};
        EXPECT_EQ(std::vector<unsigned>(y.begin() + lane * 9, y.begin() + lane * 9 + 9), expected);
      }
    });
  }
}

/// Two halves of a warp go separate ways, each with its own mask.
__global__ void halves_kernel(int* y) {
  const auto lane = static_cast<int>(threadIdx.x);
  if (lane < 16) {
    for (int i = 0; i < 3; ++i) y[lane] = __shfl_xor_sync(0x0000FFFF, lane + i, 1);
  } else {
    y[lane] = __reduce_add_sync(0xFFFF0000, 1);
  }
}

TEST(Warp, DivergentHalvesWithTheirOwnMasksAreRight) {
  std::vector<int> y(32);
  under_every_schedule([&] {
    EXPECT_EQ(fault_message(halves_kernel, {1, 32}, y.data()), "");
    for (int t = 0; t < 32; ++t) EXPECT_EQ(y[t], t < 16 ? (t ^ 1) + 2 : 16);
  });
}

__global__ void block_sum_kernel(const float* x, int count, float* y) {
  CMIR_SHARED(float, partial, [32]);
  float sum = 0;
  for (unsigned i = threadIdx.x; i < static_cast<unsigned>(count); i += blockDim.x) sum += x[i];
  for (int half = warpSize / 2; half > 0; half /= 2) sum += __shfl_down_sync(~0u, sum, half);
  if (threadIdx.x % warpSize == 0) partial[threadIdx.x / warpSize] = sum;
  __syncthreads();
  if (threadIdx.x < warpSize) {
    sum = threadIdx.x < blockDim.x / warpSize ? partial[threadIdx.x] : 0.0F;
    for (int half = warpSize / 2; half > 0; half /= 2) sum += __shfl_down_sync(~0u, sum, half);
    if (threadIdx.x == 0) *y = sum;
  }
}

TEST(Warp, ABlockReductionSums) {
  std::vector<float> x(1000);
  std::iota(x.begin(), x.end(), 1.0F);
  for (const unsigned threads : {32u, 128u, 1024u}) {
    const auto y = expect_same_under_schedules([&] {
      std::vector<float> out(1);
      launch(block_sum_kernel, LaunchConfig{1, threads}, x.data(), 1000, out.data());
      return out;
    });
    EXPECT_EQ(y[0], 500500.0F);
  }
}

__global__ void barrier_votes_kernel(int* y) {
  const auto t = static_cast<int>(threadIdx.x);
  y[4 * t] = __syncthreads_count(t % 3 == 0);
  y[4 * t + 1] = __syncthreads_and(t < 69);
  y[4 * t + 2] = __syncthreads_and(t < 70);
  y[4 * t + 3] = 2 * __syncthreads_or(t == 69) + __syncthreads_or(0);
}

TEST(Barrier, CountsAndVotesOverTheBlock) {
  std::vector<int> y(280);
  under_every_schedule([&] {
    EXPECT_EQ(fault_message(barrier_votes_kernel, {1, 70}, y.data()), "");
    for (int t = 0; t < 70; ++t) {
      EXPECT_EQ(std::vector<int>(y.begin() + 4 * t, y.begin() + 4 * t + 4),
                (std::vector<int>{24, 0, 1, 2}));
    }
  });
}

int waiting_line;  // set by kernels: where they wait in vain

__global__ void returned_kernel() {
  if (threadIdx.x >= 40) return;
  waiting_line = __LINE__ + 1;
  __syncthreads();
}

__global__ void two_barriers_kernel() {
  if (threadIdx.y == 0) {
    __syncthreads();
  } else {
    __syncthreads_or(1);
  }
}

TEST(Barrier, MustBeReachedByAllThreads) {
  under_every_schedule([&] {
    const std::string message = fault_message(returned_kernel, {dim3(1, 2), 64});
    EXPECT_EQ(message,
              fmt::format("returned_kernel: block (0,{},0), thread (0,0,0), warp_test.cpp:{}: "
                          "__syncthreads is not reached by all threads: 24 of 64 threads have "
                          "returned, the first of them thread (40,0,0)",
                          blockIdx.y, waiting_line));
    EXPECT_THAT(fault_message(two_barriers_kernel, {1, dim3(8, 2)}),
                AllOf(StartsWith("two_barriers_kernel: block (0,0,0), thread ("),
                      HasSubstr("is not the barrier that all threads reach: thread (")));
  });
}

__device__ void team_barrier(int team) { team == 0 ? named_barrier<1>(64) : named_barrier<2>(64); }

/// Two teams of 64 threads pass a value on in turns, the second team twice as often. Racing: the
/// first team's last turn has no barrier of its own.
template <bool Racing>
__global__ void teams_kernel(int* y) {
  CMIR_SHARED(int, cells, [128]);
  const int thread = static_cast<int>(threadIdx.x) % 64, team = static_cast<int>(threadIdx.x) / 64;
  int value = thread;
  for (int turn = 0; turn < 4 * (1 + team); ++turn) {
    cells[64 * team + thread] = value;
    if (!(Racing && team == 0 && turn == 3)) team_barrier(team);
    value = cells[64 * team + (thread + 33) % 64];
    team_barrier(team);
  }
  y[threadIdx.x] = value;
}

template <int Kind>
__global__ void bad_team_kernel() {
  const auto thread = static_cast<int>(threadIdx.x);
  if constexpr (Kind == 0) named_barrier<0>(64);
  if constexpr (Kind == 1) named_barrier<1>(33);
  if constexpr (Kind == 2) named_barrier<1>(thread < 32 ? 64 : 96);
  if constexpr (Kind == 3) {
    if (thread < 40) named_barrier<1>(64);
  }
}

TEST(NamedBarrier, JoinsPartsOfABlock) {
  const std::vector<int> y = expect_same_under_schedules([] {
    std::vector<int> results(128);
    launch(teams_kernel<false>, LaunchConfig{1, 128}, results.data());
    return results;
  });
  for (int t = 0; t < 128; ++t) EXPECT_EQ(y[t], (t + 33 * (t < 64 ? 4 : 8)) % 64) << t;
}

TEST(NamedBarrier, FindsWhatIsWrong) {
  under_every_schedule([] {
    std::vector<int> y(128);
    EXPECT_THAT(fault_message(teams_kernel<true>, {1, 128}, y.data()),
                HasSubstr("race on shared memory 'cells'"));
    EXPECT_THAT(fault_message(bad_team_kernel<0>, {1, 64}), HasSubstr("needs 1 to 15"));
    EXPECT_THAT(fault_message(bad_team_kernel<1>, {1, 64}), HasSubstr("whole warps"));
    EXPECT_THAT(fault_message(bad_team_kernel<2>, {1, 64}), HasSubstr("waits at it for"));
    EXPECT_THAT(fault_message(bad_team_kernel<3>, {1, 64}),
                HasSubstr("named_barrier is not reached by all threads"));
  });
}

template <int Kind>
__global__ void bad_warp_kernel(int* y) {
  const auto lane = static_cast<int>(threadIdx.x);
  if constexpr (Kind == 0) y[lane] = __shfl_sync(0x0000FFFF, lane, 20);
  if constexpr (Kind == 1) __syncwarp(lane == 3 ? 0x0000FFFF : 0xFFFFFFFF);
  if constexpr (Kind == 2) {
    if (lane == 7) return;
    __syncwarp();
  }
  if constexpr (Kind == 3) __syncwarp(~(1u << lane));
  if constexpr (Kind == 4) y[lane] = lane == 5 ? __any_sync(~0u, 1) : __shfl_sync(~0u, lane, 0);
  if constexpr (Kind == 5) {
    if (lane == 9) {
      __syncthreads();
    } else {
      __syncwarp();
    }
  }
  if constexpr (Kind == 6) y[lane] = __shfl_sync(0x0000FFFF, lane, lane < 16 ? lane + 1 : 0);
  if constexpr (Kind == 7) y[lane] = __shfl_sync(~0u, lane, 0, 12);
}

TEST(Warp, MisuseIsFoundAndNamed) {
  std::vector<int> y(32);
  const auto message = [&](auto* kernel, unsigned threads) {
    const std::string text = fault_message(kernel, {1, threads}, y.data());
    EXPECT_THAT(text, AllOf(StartsWith("bad_warp_kernel<"), HasSubstr(": block (0,0,0), thread ("),
                            HasSubstr("warp_test.cpp:")));
    return text;
  };
  under_every_schedule([&] {
    EXPECT_THAT(
        message(bad_warp_kernel<0>, 16),
        HasSubstr("__shfl_sync with mask 0x0000ffff reads lane 20, which is not in the mask"));
    EXPECT_THAT(message(bad_warp_kernel<1>, 32), HasSubstr("disagrees with a lane of its warp"));
    EXPECT_THAT(message(bad_warp_kernel<2>, 32), HasSubstr("has returned"));
    EXPECT_THAT(message(bad_warp_kernel<3>, 32), HasSubstr("which lacks the calling lane"));
    EXPECT_THAT(message(bad_warp_kernel<4>, 32), HasSubstr("disagrees with a lane of its warp"));
    EXPECT_THAT(message(bad_warp_kernel<5>, 32),
                HasSubstr("__syncwarp is not reached by all threads: thread (9,0,0)"));
    EXPECT_THAT(message(bad_warp_kernel<6>, 16),
                HasSubstr("reads lane 16, which is not in the mask"));
    EXPECT_THAT(message(bad_warp_kernel<7>, 32), HasSubstr("width 12; needs a power of two"));
    EXPECT_THAT(message(bad_warp_kernel<7>, 20), HasSubstr("width 12"));
    EXPECT_THAT(message(bad_warp_kernel<1>, 20),
                HasSubstr("its block of 20 threads has no lane 20 in this warp"));
  });
}

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
