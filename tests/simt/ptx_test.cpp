// The PTX twins against plain matrix products. The matrices are laid out by ldmatrix or by the
// index formulas of the PTX manual as written here, not by the twins' own.
#include "kernels/cuda/ptx.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/philox.h"
#include "kernels/simt/schedule.h"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

using ::testing::HasSubstr;

std::vector<float> normals(std::size_t count, std::uint64_t seed) {
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = RandomStream{.seed = seed}.normal(i);
  return values;
}

/// c [m, n] + a [m, k] b [k, n] in f64.
std::vector<double> product(const std::vector<float>& a, const std::vector<float>& b,
                            const std::vector<float>& c, int m, int n, int k) {
  std::vector<double> d(c.begin(), c.end());
  for (int i = 0; i < m; ++i) {
    for (int j = 0; j < n; ++j) {
      for (int l = 0; l < k; ++l) d[i * n + j] += double{a[i * k + l]} * b[l * n + j];
    }
  }
  return d;
}

void expect_near(const std::vector<float>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], 1e-5) << i;
}

/// Loads or stores D [16, 8] by the manual's formula: row = lane / 4 (+ 8 for c2, c3), column =
/// 2 (lane % 4) + (i & 1).
__device__ int d_index(unsigned lane, int i) {
  return static_cast<int>((lane >> 2) + (i < 2 ? 0 : 8)) * 8 + static_cast<int>(lane % 4 * 2) +
         (i & 1);
}

/// Factors rounded, or as they are, of which the hardware then leaves out bits.
template <bool Round>
__global__ void tf32_kernel(const float* a, const float* b, float* d) {
  const unsigned lane = threadIdx.x, group = lane >> 2, thread = lane % 4;
  const auto factor = [](float x) { return Round ? to_tf32(x) : __float_as_uint(x); };
  const unsigned a_registers[4] = {
      factor(a[group * 8 + thread]), factor(a[(group + 8) * 8 + thread]),
      factor(a[group * 8 + thread + 4]), factor(a[(group + 8) * 8 + thread + 4])};
  const unsigned b_registers[2] = {factor(b[thread * 8 + group]),
                                   factor(b[(thread + 4) * 8 + group])};
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[d_index(lane, i)];
  mma_m16n8k8_tf32(sums, a_registers, b_registers);
  for (int i = 0; i < 4; ++i) d[d_index(lane, i)] = sums[i];
}

std::vector<float> transposed(const std::vector<float>& x, int rows, int columns) {
  std::vector<float> y(x.size());
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < columns; ++j) y[j * rows + i] = x[i * columns + j];
  }
  return y;
}

std::vector<float> rounded(std::vector<float> values, float (*round)(float)) {
  for (float& value : values) value = round(value);
  return values;
}

TEST(Ptx, Tf32MmaIsTheProductOfTheMatricesWithoutTheirLowBits) {
  const auto a = normals(16 * 8, 1), b = normals(8 * 8, 2), c = normals(16 * 8, 3);
  const auto round = [](float x) { return std::bit_cast<float>(to_tf32(x)); };
  const auto cut = [](float x) {
    return std::bit_cast<float>(std::bit_cast<unsigned>(x) & 0xFFFFE000);
  };
  const auto of = [&](auto* kernel) {
    return expect_same_under_schedules([&] {
      auto out = c;
      launch(kernel, LaunchConfig{1, 32}, a.data(), b.data(), out.data());
      return out;
    });
  };
  expect_near(of(&tf32_kernel<true>), product(rounded(a, round), rounded(b, round), c, 16, 8, 8));
  expect_near(of(&tf32_kernel<false>), product(rounded(a, cut), rounded(b, cut), c, 16, 8, 8));
}

/// ldmatrix of a row-major tile of f32: its 16 bytes are four features, and a register holds the
/// one of an m16n8k8 factor.
__global__ void tf32_ldmatrix_kernel(const float* a, const float* b_transposed, float* d) {
  CMIR_SHARED(float, a_tile, [16][8]);
  CMIR_SHARED(float, b_tile, [8][8]);
  const unsigned lane = threadIdx.x;
  for (unsigned i = lane; i < 128; i += 32) a_tile[i / 8][i % 8] = a[i];
  for (unsigned i = lane; i < 64; i += 32) b_tile[i / 8][i % 8] = b_transposed[i];
  __syncwarp();
  unsigned a_registers[4], b_registers[2];
  ldmatrix(a_registers, &a_tile[lane % 16][lane / 16 * 4]);
  ldmatrix(b_registers, &b_tile[lane % 8][lane / 8 % 2 * 4]);
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[d_index(lane, i)];
  mma_m16n8k8_tf32(sums, a_registers, b_registers);
  for (int i = 0; i < 4; ++i) d[d_index(lane, i)] = sums[i];
}

TEST(Ptx, LdmatrixGivesTheFactorsOfATf32Mma) {
  const auto a = normals(16 * 8, 1), b = normals(8 * 8, 2), c = normals(16 * 8, 3);
  const auto bt = transposed(b, 8, 8);
  auto through_formula = c, through_ldmatrix = c;
  launch(tf32_kernel<false>, LaunchConfig{1, 32}, a.data(), b.data(), through_formula.data());
  launch(tf32_ldmatrix_kernel, LaunchConfig{1, 32}, a.data(), bt.data(), through_ldmatrix.data());
  EXPECT_EQ(through_ldmatrix, through_formula);
}

TEST(Ptx, Tf32RoundsToNearestTiesAway) {
  EXPECT_EQ(std::bit_cast<float>(to_tf32(1.0F + 0x1p-11F)), 1.0F + 0x1p-10F);
  EXPECT_EQ(std::bit_cast<float>(to_tf32(-1.0F - 0x1p-11F)), -1.0F - 0x1p-10F);
  EXPECT_EQ(std::bit_cast<float>(to_tf32(1.0F + 0x1p-12F)), 1.0F);
  EXPECT_EQ(std::bit_cast<float>(to_tf32(INFINITY)), INFINITY);
}

TEST(Ptx, Exp2IsZeroBelowTheNormalNumbers) {
  EXPECT_EQ(exp2_approximate(-3.0F), 0.125F);
  EXPECT_EQ(exp2_approximate(-126.0F), 0x1p-126F);
  EXPECT_EQ(exp2_approximate(-127.0F), 0.0F);
  EXPECT_EQ(exp2_approximate(-INFINITY), 0.0F);
  EXPECT_EQ(exp2_approximate(INFINITY), INFINITY);
  EXPECT_TRUE(std::isnan(exp2_approximate(NAN)));
}

/// By the manual's formulas, from global memory.
__global__ void bf16_formula_kernel(const float* a, const float* b, float* d) {
  const unsigned lane = threadIdx.x, group = lane >> 2, thread = lane % 4;
  unsigned a_registers[4], b_registers[2];
  for (int r = 0; r < 4; ++r) {
    float pair[2];
    for (int half = 0; half < 2; ++half) {
      const int i = 2 * r + half;
      const unsigned row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
      const unsigned column = thread * 2 + (i & 1) + (i < 4 ? 0 : 8);
      pair[half] = a[row * 16 + column];
    }
    a_registers[r] = pack_bf16(pair[0], pair[1]);
  }
  for (int r = 0; r < 2; ++r) {
    const unsigned row = thread * 2 + (r == 0 ? 0 : 8);
    b_registers[r] = pack_bf16(b[row * 8 + group], b[(row + 1) * 8 + group]);
  }
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[d_index(lane, i)];
  mma_m16n8k16_bf16(sums, a_registers, b_registers);
  for (int i = 0; i < 4; ++i) d[d_index(lane, i)] = sums[i];
}

/// Through shared memory and ldmatrix: one x4 for A, and for B two x1, or one x2.
template <bool Single>
__global__ void bf16_ldmatrix_kernel(const float* a, const float* b, float* d) {
  CMIR_SHARED(BFloat16, a_tile, [16][24]);  // padded rows: still 16-byte aligned
  CMIR_SHARED(BFloat16, b_tile, [16][8]);
  const unsigned lane = threadIdx.x;
  for (unsigned i = lane; i < 16 * 16; i += 32) a_tile[i / 16][i % 16] = BFloat16(a[i]);
  for (unsigned i = lane; i < 16 * 8; i += 32) b_tile[i / 8][i % 8] = BFloat16(b[i]);
  __syncwarp();
  unsigned a_registers[4], b_registers[2];
  ldmatrix(a_registers, &a_tile[lane % 16][lane / 16 * 8]);
  if constexpr (Single) {
    unsigned upper[1], lower[1];
    ldmatrix_trans(upper, &b_tile[lane % 8][0]);
    ldmatrix_trans(lower, &b_tile[lane % 8 + 8][0]);
    b_registers[0] = upper[0];
    b_registers[1] = lower[0];
  } else {
    ldmatrix_trans(b_registers, &b_tile[lane % 16][0]);
  }
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[d_index(lane, i)];
  mma_m16n8k16_bf16(sums, a_registers, b_registers);
  for (int i = 0; i < 4; ++i) d[d_index(lane, i)] = sums[i];
}

/// B is given transposed [8, 16], so that ldmatrix loads it as it lies; A transposed [16, 16], so
/// that ldmatrix_trans x4 turns it.
__global__ void bf16_transposed_kernel(const float* a_transposed, const float* b_transposed,
                                       float* d) {
  CMIR_SHARED(BFloat16, a_tile, [16][16]);
  CMIR_SHARED(BFloat16, b_tile, [8][16]);
  const unsigned lane = threadIdx.x;
  for (unsigned i = lane; i < 256; i += 32) a_tile[i / 16][i % 16] = BFloat16(a_transposed[i]);
  for (unsigned i = lane; i < 128; i += 32) b_tile[i / 16][i % 16] = BFloat16(b_transposed[i]);
  __syncwarp();
  unsigned a_registers[4], b_registers[2];
  ldmatrix_trans(a_registers, &a_tile[lane % 8 + lane / 16 * 8][lane / 8 % 2 * 8]);
  ldmatrix(b_registers, &b_tile[lane % 8][lane / 8 % 2 * 8]);
  float sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = d[d_index(lane, i)];
  mma_m16n8k16_bf16(sums, a_registers, b_registers);
  for (int i = 0; i < 4; ++i) d[d_index(lane, i)] = sums[i];
}

TEST(Ptx, Bf16MmaAndLdmatrixGiveTheProductOfTheRoundedMatrices) {
  const auto a = normals(16 * 16, 4), b = normals(16 * 8, 5), c = normals(16 * 8, 6);
  const auto round = [](float x) { return static_cast<float>(BFloat16(x)); };
  const auto expected = product(rounded(a, round), rounded(b, round), c, 16, 8, 16);
  for (auto* kernel :
       {&bf16_formula_kernel, &bf16_ldmatrix_kernel<true>, &bf16_ldmatrix_kernel<false>}) {
    expect_near(expect_same_under_schedules([&] {
                  auto out = c;
                  launch(kernel, LaunchConfig{1, 32}, a.data(), b.data(), out.data());
                  return out;
                }),
                expected);
  }
  const auto at = transposed(a, 16, 16), bt = transposed(b, 16, 8);
  auto out = c;
  launch(bf16_transposed_kernel, LaunchConfig{1, 32}, at.data(), bt.data(), out.data());
  expect_near(out, expected);
}

/// Three stages in flight: copies of 16 bytes, the last partly zeros, then 8 and 4.
template <bool Wait>
__global__ void async_copy_kernel(const float* x, float* y) {
  CMIR_SHARED(float, tile, [3][32 * 4]);
  const unsigned lane = threadIdx.x;
  cp_async_16(&tile[0][lane * 4], x + lane * 4, lane == 31 ? 8 : 16);
  cp_async_commit();
  for (unsigned half = 0; half < 2; ++half) {
    cp_async_8(&tile[1][lane * 4 + half * 2], x + lane * 4 + half * 2);
  }
  cp_async_commit();
  for (unsigned i = lane; i < 128; i += 32) cp_async_4(&tile[2][i], x + i);
  cp_async_commit();
  if constexpr (Wait) {
    cp_async_wait_group<2>();
    __syncwarp();
    for (unsigned i = lane; i < 128; i += 32) y[i] = tile[0][i];
    cp_async_wait_group<0>();
    __syncwarp();
    for (unsigned i = lane; i < 128; i += 32) y[128 + i] = tile[1][127 - i];
  } else {
    cp_async_wait_group<1>();
    __syncwarp();
  }
  for (unsigned i = lane; i < 128; i += 32) y[256 + i] = tile[2][127 - i];
}

TEST(Ptx, AsyncCopiesArriveWhenWaitedFor) {
  const auto x = normals(128, 7);
  const auto y = expect_same_under_schedules([&] {
    std::vector<float> out(384);
    launch(async_copy_kernel<true>, LaunchConfig{1, 32}, x.data(), out.data());
    return out;
  });
  for (int i = 0; i < 128; ++i) {
    EXPECT_EQ(y[i], i < 126 ? x[i] : 0.0F);
    EXPECT_EQ(y[128 + i], x[127 - i]);
    EXPECT_EQ(y[256 + i], x[127 - i]);
  }
}

/// 0: the target was written before, but is read while a copy to it is under way; 1: a copy is
/// started to what other threads read in the same interval.
template <int Kind>
__global__ void async_hazard_kernel(const float* x, float* y) {
  CMIR_SHARED(float, tile, [64]);
  const unsigned t = threadIdx.x;
  tile[t] = 0.0F;
  __syncthreads();
  if constexpr (Kind == 1) y[t] = tile[63 - t];
  cp_async_4(&tile[t], x + t);
  cp_async_commit();
  if constexpr (Kind == 0) y[t] = tile[t];
  cp_async_wait_group<0>();
}

TEST(Ptx, ACopyUnderWayOwnsItsTarget) {
  const auto x = normals(64, 9);
  std::vector<float> y(64);
  const auto message = [&](auto* kernel) -> std::string {
    try {
      launch(kernel, LaunchConfig{1, 64}, x.data(), y.data());
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  for (const Schedule& schedule : tried_schedules()) {
    const ScheduleScope scope(schedule);
    EXPECT_THAT(message(async_hazard_kernel<0>), HasSubstr("is read before it is written"));
    EXPECT_NE(message(async_hazard_kernel<1>), "");
  }
}

TEST(Ptx, AMissingWaitIsAReadBeforeTheWrite) {
  const ScheduleScope in_order(Schedule{});
  const auto x = normals(128, 8);
  std::vector<float> y(384);
  try {
    launch(async_copy_kernel<false>, LaunchConfig{1, 32}, x.data(), y.data());
    FAIL() << "not found";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("async_copy_kernel<false>: block (0,0,0), thread (0,0,0), "
                                        "ptx_test.cpp:"));
    EXPECT_THAT(error.what(),
                HasSubstr("shared memory 'tile' element 383 is read before it is written"));
  }
}

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
