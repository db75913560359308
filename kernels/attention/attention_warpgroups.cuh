// Attention on Hopper (sm_90a): a block has one head of one sample and kOwnRows of its rows (of
// queries, or of keys). Its first warp copies: the block's own tiles once, then the other side's
// tiles, two kinds in turn (key and value, or query and doutput), to a ring of slots. Two
// warpgroups of 64 rows each multiply (Shah et al. 2024, FlashAttention-3). The layout of tiles:
// kernels/cuda/warpgroup.h.
//
// A box may run past the sample's last row, into rows of others. What those are must not matter,
// even if it is NaN: the copying warp sets them to 0 in a tile of the other side. In one's own
// tiles they make rows of results that nobody stores.
#pragma once

#include "kernels/attention/attention_warpgroups.h"
#include "kernels/cuda/warpgroup_ring.cuh"

namespace cmir::kernels::CMIR_DEVICE {

/// Tiles of kWidth features, those of the other side of kOtherRows rows; kOwnTiles of one's own.
template <int kWidth_, int kOtherRows_, int kOwnTiles_>
struct WarpgroupTeam {
  static constexpr int kWidth = kWidth_, kPanels = kWidth / kTensorBoxWidth;
  static constexpr int kOtherRows = kOtherRows_, kOwnTiles = kOwnTiles_, kOwnRows = 128;
  static constexpr int kOwnSize = kOwnRows * kWidth, kOtherSize = kOtherRows * kWidth;
  static constexpr int kConsumers = 8;  ///< warps; and a warpgroup that copies
  static constexpr int kThreads = kSharingThreads;
  using Ring = CopyRing<4>;
  static constexpr int kSlots = Ring::kSlots;
  static constexpr int kBarriers = Ring::kBarriers + 4;  ///< the members of WarpgroupTiles
  using Rows = float[1][kWidth / 8][4];
  using Scores = float[1][kOtherRows / 8][4];

  /// The tiles begin at a multiple of 1024 bytes.
  static constexpr std::size_t shared_bytes() {
    return sizeof(BFloat16) * (kOwnTiles * kOwnSize + kSlots * kOtherSize) + 1024;
  }
  static __device__ int warpgroup() { return static_cast<int>(threadIdx.x) / 128 - 1; }
  /// The warp's first row in an own tile.
  static __device__ int warp_row() { return (static_cast<int>(threadIdx.x) - 128) / 32 * 16; }
};

/// A matrix of which boxes are copied, and which of its rows are the sample's.
struct BoxSource {
  const TensorMap* map;
  int head, first_row, rows;
};

/// The block's tiles and barriers.
template <class Team>
struct WarpgroupTiles {
  using Pointer = SharedPointer<BFloat16>;
  Pointer own, slots;
  typename Team::Ring ring;
  SharedPointer<Mbarrier> own_full, patch, turn;

  __device__ WarpgroupTiles(const Pointer& memory, const SharedPointer<Mbarrier>& barriers)
      : own(aligned_panels(memory)),
        slots(own + Team::kOwnTiles * Team::kOwnSize),
        ring{barriers},
        own_full(barriers + Team::Ring::kBarriers),
        patch(own_full + 1),
        turn(own_full + 2) {
    if (threadIdx.x == 0) {
      ring.init(Team::kConsumers);
      mbarrier_init(own_full, 1);
      mbarrier_init(patch, 1);
      mbarrier_init(turn, 4);
      mbarrier_init(turn + 1, 4);
      fence_mbarrier_init();
    }
    __syncthreads();
  }

  __device__ Pointer tile(int step) const { return slots + step % Team::kSlots * Team::kOtherSize; }

  // By the warp that copies.

  template <int kRows>
  __device__ void copy_boxes(const Pointer& to, const BoxSource& from, int begin,
                             const SharedPointer<Mbarrier>& arrival) const {
    for (int panel = 0; panel < Team::kPanels; ++panel) {
      for (int r = 0; r < kRows; r += kTensorBoxRows) {
        copy_tensor_box(to + (panel * kRows + r) * kTensorBoxWidth, *from.map,
                        panel * kTensorBoxWidth, from.head, from.first_row + begin + r, arrival);
      }
    }
  }
  /// kOwnTiles matrices' rows from `begin` on.
  template <class... Sources>
  __device__ void copy_own(int begin, const Sources&... sources) const {
    static_assert(sizeof...(Sources) == Team::kOwnTiles);
    if (lane_of_warp() != 0) return;
    mbarrier_arrive_expecting(own_full, sizeof(BFloat16) * Team::kOwnTiles * Team::kOwnSize);
    int index = 0;
    (copy_boxes<Team::kOwnRows>(own + index++ * Team::kOwnSize, sources, begin, own_full), ...);
  }
  /// Step `step`, when its slot is free. `patched`: how many tiles have been filled up before.
  __device__ void copy_other(int step, const BoxSource& from, int begin, int& patched) const {
    const int left = from.rows - begin;
    const bool whole = left >= Team::kOtherRows;
    if (lane_of_warp() == 0) {
      ring.wait_empty(step);
      const auto arrival = whole ? ring.full(step) : patch;
      mbarrier_arrive_expecting(arrival, sizeof(BFloat16) * Team::kOtherSize);
      copy_boxes<Team::kOtherRows>(tile(step), from, begin, arrival);
    }
    __syncwarp();  // no lane waits while another has copies to start
    if (whole) return;
    mbarrier_wait(patch, patched++ % 2);
    const auto words = shared_cast<unsigned>(tile(step));
    for (int panel = 0; panel < Team::kPanels; ++panel) {
      for (int r = left; r < Team::kOtherRows; ++r) {
        words[(panel * Team::kOtherRows + r) * 32 + lane_of_warp()] = 0;
      }
    }
    fence_async_proxy();
    __syncwarp();
    if (lane_of_warp() == 0) mbarrier_arrive(ring.full(step));
  }

  // By the warps that multiply.

  /// The warpgroups take turns to start a round of products, so that one has its softmax while the
  /// tensor cores are the other's.
  __device__ void wait_turn(int round) const {
    const int mine = Team::warpgroup();
    mbarrier_wait(turn + mine, round % 2 ^ (1 - mine));
  }
  __device__ void pass_turn() const {
    __syncwarp();  // every lane has had its turn
    if (lane_of_warp() == 0) mbarrier_arrive(turn + (1 - Team::warpgroup()));
  }

  /// sums = the warpgroup's rows of own tile `index` . the rows of a step.
  template <int kTiles>
  __device__ void multiply_rows(int index, int step, float (&sums)[kTiles][4]) const {
    const auto left = own + (index * Team::kOwnSize + Team::warpgroup() * 64 * kTensorBoxWidth);
    const auto right = tile(step);
    for (int k = 0; k < Team::kWidth; k += 16) {
      const int panel = k / kTensorBoxWidth, in_panel = k % kTensorBoxWidth;
      warpgroup_multiply(
          sums, row_descriptor(left + (panel * Team::kOwnRows * kTensorBoxWidth + in_panel)),
          row_descriptor(right + (panel * Team::kOtherRows * kTensorBoxWidth + in_panel)), k > 0);
    }
  }
  /// sums += the weights (of which factors_of made factors) times the rows of a step.
  template <int kSteps, int kWidthTiles>
  __device__ void add_weighted_rows(const Bf16Factors::Left (&weights)[kSteps], int step,
                                    float (&sums)[kWidthTiles][4]) const {
    static_assert(16 * kSteps == Team::kOtherRows && 8 * kWidthTiles == Team::kWidth);
    for (int s = 0; s < kSteps; ++s) {
      warpgroup_multiply(sums, weights[s].bits,
                         matrix_descriptor(tile(step) + s * 16 * kTensorBoxWidth,
                                           Team::kOtherRows * kEightRows / 8, kEightRows));
    }
  }

 private:
  static constexpr int kEightRows = 8 * kTensorBoxWidth * static_cast<int>(sizeof(BFloat16));
  static __device__ MatrixDescriptor row_descriptor(const Pointer& start) {
    return matrix_descriptor(start, 16, kEightRows);
  }
};

/// Scores as left factors of the products that follow, rounded to bf16.
template <int kTiles>
__device__ void factors_of(const float (&scores)[1][kTiles][4],
                           Bf16Factors::Left (&factors)[kTiles / 2]) {
  for (int s = 0; s < kTiles / 2; ++s) factors[s] = Bf16Factors::left_of(scores[0], s);
}

/// What a block works on. The warps that copy have few registers, so each side finds it out itself.
/// kLastFirst: a head's last rows, which in a causal problem see most, begin first.
template <class Team, class Args, bool kLastFirst>
struct WarpgroupBlock {
  AttentionTask task;
  AttentionHead<BFloat16> h;
  int begin;

  __device__ WarpgroupBlock(const Args& a, const AttentionTeams& teams)
      : task(teams, static_cast<int>(blockIdx.x), static_cast<int>(a.items[0].problem.heads)),
        h(a.items[task.item].problem, task.sample, task.head),
        begin((kLastFirst ? teams.tiles[task.item] - 1 - task.tile : task.tile) * Team::kOwnRows) {}

  __device__ BoxSource query_rows(const TensorMap& map) const {
    return {&map, h.head, static_cast<int>(h.first_query), h.queries};
  }
  __device__ BoxSource key_rows(const TensorMap& map) const {
    return {&map, h.head, static_cast<int>(h.first_key), h.keys};
  }
};

/// Of each problem, the matrices that are copied.
template <int kMatrices>
struct AttentionMaps {
  TensorMap of[kAttentionProblems][kMatrices];
};

/// Those of the items that are done here: query, key, value and, in backward, doutput. False: none.
template <int kMatrices, class Args>
bool make_maps(const Args& a, AttentionMaps<kMatrices>& maps) {
  bool any = false;
  for (int i = 0; i < a.count; ++i) {
    if (!on_warpgroups(a.items[i])) continue;
    any = true;
    const AttentionProblem<BFloat16>& p = a.items[i].problem;
    const auto map_of = [&](const BFloat16* first, std::int64_t rows, std::int64_t stride) {
      return make_tensor_map(first, p.head_width, p.heads, rows, stride);
    };
    maps.of[i][0] = map_of(p.query, p.query_rows, p.query_stride);
    maps.of[i][1] = map_of(p.key, p.key_rows, p.key_stride);
    maps.of[i][2] = map_of(p.value, p.key_rows, p.value_stride);
    if constexpr (kMatrices > 3) {
      maps.of[i][3] = map_of(a.items[i].doutput, p.query_rows, p.width());
    }
  }
  return any;
}

/// The blocks of a launch over `rows_of(item)` rows of each item that is done here.
template <class Team, class Args, class RowsOf>
AttentionTeams warpgroup_teams(const Args& a, const RowsOf& rows_of) {
  return number_teams(
      a, AttentionLaunch{},
      [&](const auto& item) { return (rows_of(item) + Team::kOwnRows - 1) / Team::kOwnRows; },
      [](const auto& item) {
        return on_warpgroups(item) ? item.problem.samples * item.problem.heads : 0;
      });
}

template <class Team>
LaunchConfig warpgroup_configuration(const AttentionTeams& teams) {
  return {.grid = dim3(static_cast<unsigned>(teams.first[teams.count])),
          .block = dim3(Team::kThreads),
          .shared_bytes = Team::shared_bytes()};
}

}  // namespace cmir::kernels::CMIR_DEVICE
