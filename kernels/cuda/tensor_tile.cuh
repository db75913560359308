// Products of tiles in shared memory by the tensor cores: one code for bf16, TF32 and f32, over a
// policy of factors.
//
// A tile has rows of kWidth elements, a multiple of 32 bytes, that begin tile_stride apart. A row
// of 16-byte units looks the same to ldmatrix whatever the elements are, so the factors of both
// layouts (kernels/cuda/ptx.h, whose group and pair these are) come from the same addresses: a step
// of a product is 32 bytes of a row, 16 elements of bf16 or 8 of f32.
#pragma once

#include "kernels/cuda/ptx.h"

namespace cmir::kernels::CMIR_DEVICE {

__device__ inline int lane_of_warp() { return static_cast<int>(threadIdx.x) % 32; }

/// An odd number of 16 bytes, so that no two of eight rows at the same column meet in a bank.
template <class T>
CMIR_HOST_DEVICE constexpr int tile_stride(int width) {
  return width + kVectorSize<T>;
}

/// bf16: products exact, sums in f32.
struct Bf16Factors {
  using Element = BFloat16;
  static constexpr int kStep = 16, kUnroll = 4;
  static constexpr bool kPlainSums = false;
  struct Left {
    unsigned bits[4];
  };
  struct Right {
    unsigned bits[2];
  };

  __device__ static Left left(const unsigned (&r)[4]) { return {{r[0], r[1], r[2], r[3]}}; }
  __device__ static Right right(unsigned low, unsigned high) { return {{low, high}}; }
  __device__ static void multiply(float (&sums)[4], const Left& a, const Right& b) {
    mma_m16n8k16_bf16(sums, a.bits, b.bits);
  }
  /// Step s of a result as a left factor, rounded to nearest even.
  template <int kTiles>
  __device__ static Left left_of(const float (&result)[kTiles][4], int s) {
    const auto &low = result[2 * s], &high = result[2 * s + 1];
    return {{pack_bf16(low[0], low[1]), pack_bf16(low[2], low[3]), pack_bf16(high[0], high[1]),
             pack_bf16(high[2], high[3])}};
  }
  /// The kStep rows from `rows` on as right factors: of columns 0 .. 7 and of 8 .. 15.
  __device__ static void load_rows(const SharedPointer<BFloat16>& rows, int stride,
                                   Right (&of)[2]) {
    unsigned r[4];
    ldmatrix_trans(r, rows + (lane_of_warp() % 16 * stride + lane_of_warp() / 16 * 8));
    of[0] = right(r[0], r[1]);
    of[1] = right(r[2], r[3]);
  }
};

/// f32. Each factor is rounded to TF32; where kSplit, what the rounding took off is a second TF32
/// number, and three products are summed, a b = a_high b_high + a_high b_low + a_low b_high, which
/// errs by less than 2^-21 |a b|: a_low b_low up to 2^-22, the bits of low parts that the hardware
/// does not read up to 2^-23 each (CUTLASS, example 27, "3xTF32"). Tensor cores cut off where they
/// add (Fasi et al. 2021, "Numerical behavior of NVIDIA tensor cores"); so they add up few products
/// only, and plain additions those sums (kPlainSums; Ootomo and Yokota 2022, "Recovering single
/// precision accuracy from tensor cores ..."). A factor that rounds to an infinite one gives NaN.
template <bool kSplit>
struct Tf32Factors {
  using Element = float;
  static constexpr int kStep = 8, kUnroll = kSplit ? 1 : 2;
  static constexpr bool kPlainSums = kSplit;
  template <int kCount>
  struct Parts {
    unsigned high[kCount], low[kCount];

    __device__ void set(int i, float value) {
      high[i] = to_tf32(value);
      if constexpr (kSplit) low[i] = __float_as_uint(value - __uint_as_float(high[i]));
    }
  };
  using Left = Parts<4>;
  using Right = Parts<2>;

  __device__ static Left left(const unsigned (&r)[4]) {
    Left parts;
    for (int i = 0; i < 4; ++i) parts.set(i, __uint_as_float(r[i]));
    return parts;
  }
  __device__ static Right right(unsigned low, unsigned high) {
    return right_of(__uint_as_float(low), __uint_as_float(high));
  }
  __device__ static Right right_of(float low, float high) {
    Right parts;
    parts.set(0, low);
    parts.set(1, high);
    return parts;
  }
  __device__ static void multiply(float (&sums)[4], const Left& a, const Right& b) {
    if constexpr (kSplit) {
      mma_m16n8k8_tf32(sums, a.low, b.high);
      mma_m16n8k8_tf32(sums, a.high, b.low);
    }
    mma_m16n8k8_tf32(sums, a.high, b.high);
  }
  /// Step s of a result as a left factor. A lane has columns 2 pair and 2 pair + 1 of the result,
  /// and wants pair and pair + 4 of the factor: it calls its own so, and load_rows the rows alike.
  template <int kTiles>
  __device__ static Left left_of(const float (&result)[kTiles][4], int s) {
    Left parts;
    for (int i = 0; i < 4; ++i) parts.set(i, result[s][i % 2 * 2 + i / 2]);
    return parts;
  }
  __device__ static void load_rows(const SharedPointer<float>& rows, int stride, Right (&of)[2]) {
    const auto row = rows + (lane_of_warp() % 4 * 2 * stride + lane_of_warp() / 4);
    of[0] = right_of(row[0], row[stride]);
    of[1] = right_of(row[8], row[stride + 8]);
  }
};

/// sums += a b.
template <class Factors>
__device__ void add_product(float (&sums)[4], const typename Factors::Left& a,
                            const typename Factors::Right& b) {
  if constexpr (Factors::kPlainSums) {
    float part[4] = {};
    Factors::multiply(part, a, b);
    for (int e = 0; e < 4; ++e) sums[e] += part[e];
  } else {
    Factors::multiply(sums, a, b);
  }
}

/// sums[m][n] += rows 16 m .. 16 m + 15 of `own` . rows 8 n .. 8 n + 7 of `other`.
template <class Factors, int kWidth, int kRowTiles, int kColumnTiles>
__device__ void add_row_products(const SharedPointer<typename Factors::Element>& own,
                                 const SharedPointer<typename Factors::Element>& other,
                                 float (&sums)[kRowTiles][kColumnTiles][4]) {
  constexpr int stride = tile_stride<typename Factors::Element>(kWidth), half = Factors::kStep / 2;
  const int lane = lane_of_warp();
  const auto own_row = own + (lane % 16 * stride + lane / 16 * half);
  const auto other_row = other + ((lane % 8 + lane / 16 * 8) * stride + lane / 8 % 2 * half);
  // A loop's whole would be prefetched, into registers that there are not.
#pragma unroll Factors::kUnroll
  for (int k = 0; k < kWidth; k += Factors::kStep) {
    typename Factors::Left left[kRowTiles];
    for (int m = 0; m < kRowTiles; ++m) {
      unsigned r[4];
      ldmatrix(r, own_row + (16 * m * stride + k));
      left[m] = Factors::left(r);
    }
    for (int n = 0; n < kColumnTiles; n += 2) {
      unsigned r[4];
      ldmatrix(r, other_row + (8 * n * stride + k));
      const auto even = Factors::right(r[0], r[1]), odd = Factors::right(r[2], r[3]);
      for (int m = 0; m < kRowTiles; ++m) {
        add_product<Factors>(sums[m][n], left[m], even);
        add_product<Factors>(sums[m][n + 1], left[m], odd);
      }
    }
  }
}

/// sums[m][n] += weights[m], [16, 8 kTiles], times columns 8 n .. 8 n + 7 of the 8 kTiles `rows`.
template <class Factors, int kWidth, bool kPlainSums = Factors::kPlainSums, int kRowTiles,
          int kTiles>
__device__ void add_weighted_rows(const float (&weights)[kRowTiles][kTiles][4],
                                  const SharedPointer<typename Factors::Element>& rows,
                                  float (&sums)[kRowTiles][kWidth / 8][4]) {
  constexpr int stride = tile_stride<typename Factors::Element>(kWidth);
  constexpr int kSteps = 8 * kTiles / Factors::kStep;
  typename Factors::Left left[kRowTiles][kSteps];
  for (int m = 0; m < kRowTiles; ++m) {
    for (int s = 0; s < kSteps; ++s) left[m][s] = Factors::left_of(weights[m], s);
  }
  for (int n = 0; n < kWidth / 8; n += 2) {
    float parts[kRowTiles][2][4] = {};
    for (int s = 0; s < kSteps; ++s) {
      typename Factors::Right right[2];
      Factors::load_rows(rows + (s * Factors::kStep * stride + 8 * n), stride, right);
      for (int m = 0; m < kRowTiles; ++m) {
        for (int i = 0; i < 2; ++i) {
          Factors::multiply(kPlainSums ? parts[m][i] : sums[m][n + i], left[m][s], right[i]);
        }
      }
    }
    if constexpr (kPlainSums) {
      for (int m = 0; m < kRowTiles; ++m) {
        for (int i = 0; i < 2; ++i) {
          for (int e = 0; e < 4; ++e) sums[m][n + i][e] += parts[m][i][e];
        }
      }
    }
  }
}

}  // namespace cmir::kernels::CMIR_DEVICE
