#include "kernels/attention/attention.cuh"
#include "kernels/cuda/reduce.cuh"

// A team walks over the keys of its queries with a running softmax in registers (Dao 2023,
// FlashAttention-2).
namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// Of the thread's two rows, in base 2: the maximum so far, and the thread's part of the sum.
struct Softmax {
  float maximum[2] = {kMinusInfinity, kMinusInfinity}, sum[2] = {};

  /// With no logit above -inf, exp2(-inf - 0) is 0.
  __device__ float shift(int half) const {
    return maximum[half] == kMinusInfinity ? 0.0F : maximum[half];
  }
  /// Logits become exp2(logit - maximum); what was summed before is scaled to the new maximum.
  template <int kTiles, int kWidthTiles>
  __device__ void add(float (&logits)[1][kTiles][4], float (&output)[1][kWidthTiles][4]) {
    for (int half = 0; half < 2; ++half) {
      const float before = maximum[half];
      float largest = before;
      for (int n = 0; n < kTiles; ++n) {
        largest = fmaxf(largest, fmaxf(logits[0][n][2 * half], logits[0][n][2 * half + 1]));
      }
      maximum[half] = row_of_four(largest, Maximum{});
      const float from = shift(half), decay = exp2_approximate(before - from);
      sum[half] *= decay;
      for (int n = 0; n < kTiles; ++n) {
        for (int odd = 0; odd < 2; ++odd) {
          float& weight = logits[0][n][2 * half + odd];
          weight = exp2_approximate(weight - from);
          sum[half] += weight;
        }
      }
      for (int n = 0; n < kWidthTiles; ++n) {
        for (int odd = 0; odd < 2; ++odd) output[0][n][2 * half + odd] *= decay;
      }
    }
  }
};

template <class T, int kTiles>
__device__ void drop(const AttentionProblem<T>& p, const AttentionHead<T>& h, int own, int other,
                     float (&weights)[1][kTiles][4]) {
  const float keep = 1.0F / (1.0F - p.dropout);
  const unsigned kept = kept_of_tile<false, kTiles>(p, h, own, other);
  for (int n = 0; n < kTiles; ++n) {
    for (int e = 0; e < 4; ++e) {
      weights[0][n][e] *= (kept >> (4 * n + e) & 1) != 0 ? keep : 0.0F;
    }
  }
}

template <class Team>
__global__ void __launch_bounds__(kAttentionThreads, Team::kForwardBlocks)
    attention_forward_kernel(const __grid_constant__ AttentionForward<typename Team::Element> a,
                             const __grid_constant__ AttentionTeams teams) {
  using T = typename Team::Element;
  CMIR_DYNAMIC_SHARED(T, memory);
  const AttentionTask task(teams, Team::index(), static_cast<int>(a.items[0].problem.heads));
  if (task.item == teams.count) return;
  const auto& item = a.items[task.item];
  const AttentionProblem<T>& p = item.problem;
  const AttentionHead<T> h(p, task.sample, task.head);
  const int begin = task.tile * Team::kRows, own = begin + Team::warp_row();
  if (begin >= h.queries) return;
  const auto query = memory + Team::in_block() * teams.elements;
  const auto others = query + Team::kRows * Team::kStride;
  const int keys = h.keys_seen_before(begin + Team::kRows);
  if (keys > 0) {
    load_rows<Team>(query, Team::kRows, h.query_rows(p.query, p.query_stride), begin);
  }

  typename Team::Rows output = {};
  Softmax softmax;
  walk_tiles<Team>(
      0, keys,
      [&](int other, int slot) {
        const auto key = others + 2 * slot * Team::kOtherSize;
        load_rows<Team>(key, Team::kOtherRows, h.key_rows(p.key, p.key_stride),
                        h.key_rows(p.value, p.value_stride), other);
      },
      [&](int other, int slot) {
        const auto key = others + 2 * slot * Team::kOtherSize;
        typename Team::Scores scores = {};
        add_row_products<typename Team::Factors, Team::kWidth>(
            query + Team::warp_row() * Team::kStride, key, scores);
        to_logits<false>(p, h, own, other, scores);
        softmax.add(scores, output);
        if (p.dropout > 0) drop(p, h, own, other, scores);
        add_weighted_rows<typename Team::Factors, Team::kWidth>(scores, key + Team::kOtherSize,
                                                                output);
      });

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

template <class T>
void forward(const AttentionForward<T>& a) {
  check_device_group(a);
  const auto queries = [](const auto& item) { return item.problem.most_queries; };
  const AttentionLaunch shape = attention_launch(
      a.items[0].problem.head_width, largest_of(a, queries),
      largest_of(a, [](const auto& item) { return item.problem.most_keys; }), 1, sizeof(T));
  const AttentionTeams teams = number_teams(
      a, shape,
      [&](const auto& item) { return (queries(item) + shape.team_rows() - 1) / shape.team_rows(); },
      [](const auto& item) { return item.problem.samples * item.problem.heads; });
  if (teams.first[a.count] == 0) return;
  with_team<1>(a, shape, [&](auto team) {
    launch(attention_forward_kernel<decltype(team)>, configuration_of(shape, teams), a, teams);
  });
}

const RegisterDevice registered{&forward<float>, &forward<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
