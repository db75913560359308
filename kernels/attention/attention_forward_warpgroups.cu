#include "kernels/attention/attention_softmax.cuh"
#include "kernels/attention/attention_warpgroups.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

using Maps = AttentionMaps<3>;  // query, key, value

template <class Team>
using Block = WarpgroupBlock<Team, AttentionForward<BFloat16>, true>;

/// The block's queries, and the keys and values in turn.
template <class Team>
__device__ void copy_tiles(const WarpgroupTiles<Team>& tiles, const Block<Team>& block,
                           const TensorMap (&maps)[3]) {
  tiles.copy_own(block.begin, block.query_rows(maps[0]));
  const BoxSource key = block.key_rows(maps[1]), value = block.key_rows(maps[2]);
  const int keys = block.h.keys_seen_before(block.begin + Team::kOwnRows);
  int patched = 0;
  for (int other = 0, step = 0; other < keys; other += Team::kOtherRows, step += 2) {
    tiles.copy_other(step, key, other, patched);
    tiles.copy_other(step + 1, value, other, patched);
  }
}

/// A warp's 16 queries. A tile has its softmax while the tensor cores weigh the values of the one
/// before.
template <class Team>
__device__ void attend(const WarpgroupTiles<Team>& tiles, const Block<Team>& block,
                       const AttentionForwardItem<BFloat16>& item) {
  const AttentionProblem<BFloat16>& p = item.problem;
  const AttentionHead<BFloat16>& h = block.h;
  const int own = block.begin + Team::warp_row();
  const int keys = h.keys_seen_before(block.begin + Team::kOwnRows);
  typename Team::Rows output = {};
  Softmax softmax;
  mbarrier_wait(tiles.own_full, 0);
  Bf16Factors::Left weights[Team::kOtherRows / 16];  // of the tile before
  for (int step = 0; step / 2 * Team::kOtherRows < keys; step += 2) {
    const int other = step / 2 * Team::kOtherRows;
    typename Team::Scores scores;
    tiles.ring.wait_full(step);
    tiles.wait_turn(step / 2);
    wgmma_fence(scores[0], output[0]);
    tiles.multiply_rows(0, step, scores[0]);
    wgmma_commit();
    if (step > 0) {
      tiles.ring.wait_full(step - 1);
      wgmma_fence(output[0]);
      tiles.add_weighted_rows(weights, step - 1, output[0]);
      wgmma_commit();
      tiles.pass_turn();
      wgmma_wait<1>(scores[0]);
    } else {
      tiles.pass_turn();
      wgmma_wait<0>(scores[0]);
    }
    tiles.ring.release(step);
    to_logits<false, false>(p, h, own, other, scores);
    float decay[2];
    softmax.add(scores, decay);
    if (p.dropout > 0) drop(p, h, own, other, scores);
    wgmma_wait<0>(output[0]);
    if (step > 0) tiles.ring.release(step - 1);
    Softmax::scale(decay, output);
    factors_of(scores, weights);
  }
  if (keys > 0) {
    const int last = (keys - 1) / Team::kOtherRows * 2 + 1;
    tiles.ring.wait_full(last);
    wgmma_fence(output[0]);
    tiles.add_weighted_rows(weights, last, output[0]);
    wgmma_commit();
    wgmma_wait<0>(output[0]);
  }
  store_forward<Team>(item, h, own, softmax, output);
}

template <class Team>
__device__ void forward_block(const AttentionForward<BFloat16>& a, const AttentionTeams& teams,
                              const Maps& maps) {
  CMIR_DYNAMIC_SHARED(BFloat16, memory);
  CMIR_SHARED(Mbarrier, barriers, [Team::kBarriers]);
  const auto work = [&](const auto& use) {
    const Block<Team> block(a, teams);
    if (!block.h.is_long() || block.begin >= block.h.queries) return;
    const WarpgroupTiles<Team> tiles(memory, barriers);
    use(tiles, block);
  };
  share_work(
      [&] {
        work([&](const auto& tiles, const auto& block) {
          if (threadIdx.x < 32) copy_tiles(tiles, block, maps.of[block.task.item]);
        });
      },
      [&] {
        work([&](const auto& tiles, const auto& block) {
          attend(tiles, block, a.items[block.task.item]);
        });
      });
}

template <class Team>
__global__ void __launch_bounds__(Team::kThreads, 1)
    attention_forward_warpgroup_kernel(const __grid_constant__ AttentionForward<BFloat16> a,
                                       const __grid_constant__ AttentionTeams teams,
                                       const __grid_constant__ Maps maps) {
  if constexpr (kHasWarpgroups && sizeof(Team) > 0) {  // dependent, so that it can be left out
    forward_block<Team>(a, teams, maps);
  }
}

template <int kWidth>
void launch_forward(const AttentionForward<BFloat16>& a, const Maps& maps) {
  using Team = WarpgroupTeam<kWidth, 128, 1>;
  const AttentionTeams teams =
      warpgroup_teams<Team>(a, [](const auto& item) { return item.problem.most_queries; });
  if (teams.first[teams.count] == 0) return;
  launch(attention_forward_warpgroup_kernel<Team>, warpgroup_configuration<Team>(teams), a, teams,
         maps);
}

}  // namespace

void forward_on_warpgroups(const AttentionForward<BFloat16>& a) {
  Maps maps{};
  if (!make_maps(a, maps)) return;
  if (a.items[0].problem.head_width <= 64) return launch_forward<64>(a, maps);
  launch_forward<128>(a, maps);
}

}  // namespace cmir::kernels::CMIR_DEVICE
