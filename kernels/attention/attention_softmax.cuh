// The running softmax of attention's forward kernels (Dao 2023, FlashAttention-2), and what they do
// when all keys have been seen.
#pragma once

#include "kernels/attention/attention.cuh"
#include "kernels/cuda/reduce.cuh"

namespace cmir::kernels::CMIR_DEVICE {

/// Of the thread's two rows, in base 2: the maximum so far, and the thread's part of the sum.
struct Softmax {
  float maximum[2] = {kMinusInfinity, kMinusInfinity}, sum[2] = {};

  /// With no logit above -inf, exp2(-inf - 0) is 0.
  __device__ float shift(int half) const {
    return maximum[half] == kMinusInfinity ? 0.0F : maximum[half];
  }
  /// Logits become exp2(logit - maximum); what was summed before is scaled to the new maximum.
  template <int kTiles>
  __device__ void add(float (&logits)[1][kTiles][4], float (&decays)[2]) {
    for (int half = 0; half < 2; ++half) {
      const float before = maximum[half];
      float largest = before;
      for (int n = 0; n < kTiles; ++n) {
        largest = fmaxf(largest, fmaxf(logits[0][n][2 * half], logits[0][n][2 * half + 1]));
      }
      maximum[half] = row_of_four(largest, Maximum{});
      const float from = shift(half), decay = exp2_approximate(before - from);
      decays[half] = decay;
      sum[half] *= decay;
      for (int n = 0; n < kTiles; ++n) {
        for (int odd = 0; odd < 2; ++odd) {
          float& weight = logits[0][n][2 * half + odd];
          weight = exp2_approximate(weight - from);
          sum[half] += weight;
        }
      }
    }
  }
  template <int kTiles, int kWidthTiles>
  __device__ void add(float (&logits)[1][kTiles][4], float (&output)[1][kWidthTiles][4]) {
    float decay[2];
    add(logits, decay);
    scale(decay, output);
  }
  template <int kWidthTiles>
  __device__ static void scale(const float (&decay)[2], float (&output)[1][kWidthTiles][4]) {
    for (int n = 0; n < kWidthTiles; ++n) {
      for (int e = 0; e < 4; ++e) output[0][n][e] *= decay[e / 2];
    }
  }
};

template <class T, int kTiles>
__device__ void drop(const AttentionProblem<T>& p, const AttentionHead<T>& h, int own, int other,
                     float (&weights)[1][kTiles][4]) {
  constexpr int kDrawn = kTiles < 8 ? kTiles : 8;  // 32 bits
  const float keep = 1.0F / (1.0F - p.dropout);
  for (int first = 0; first < kTiles; first += kDrawn) {
    const unsigned kept = kept_of_tile<false, kDrawn>(p, h, own, other + 8 * first);
    for (int n = 0; n < kDrawn; ++n) {
      for (int e = 0; e < 4; ++e) {
        weights[0][first + n][e] *= (kept >> (4 * n + e) & 1) != 0 ? keep : 0.0F;
      }
    }
  }
}

/// The warp's rows from `own` of the sample on, whose weighted values are `output`.
template <class Team, class T>
__device__ void store_forward(const AttentionForwardItem<T>& item, const AttentionHead<T>& h,
                              int own, const Softmax& softmax, const typename Team::Rows& output) {
  const AttentionProblem<T>& p = item.problem;
  float factors[2];
  for (int half = 0; half < 2; ++half) {
    const float sum = row_of_four(softmax.sum[half], Sum{});
    factors[half] = sum == 0 ? 0.0F : 1.0F / sum;
    const int i = own + lane_of_warp() / 4 + 8 * half;
    if (lane_of_warp() % 4 == 0 && i < h.queries) {
      item.log_sum_exp[(h.first_query + i) * p.heads + h.head] =
          sum == 0 ? kMinusInfinity : kLn2 * softmax.shift(half) + logf(sum);
    }
  }
  store_rows<Team>(output, factors, h.query_rows(item.output, p.width()), own);
}

}  // namespace cmir::kernels::CMIR_DEVICE
