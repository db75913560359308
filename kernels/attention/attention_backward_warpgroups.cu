#include "kernels/attention/attention_backward.cuh"
#include "kernels/attention/attention_warpgroups.cuh"

// The two kernels of attention_backward.cu that walk over the other side, for warpgroups.
namespace cmir::kernels::CMIR_DEVICE {
namespace {

using Maps = AttentionMaps<4>;  // query, key, value, doutput
using Item = AttentionBackwardItem<BFloat16>;
using Head = AttentionHead<BFloat16>;
template <class Team, bool kOfKeys>
using Block = WarpgroupBlock<Team, AttentionBackward<BFloat16>, !kOfKeys>;

/// `weights` become the products of the first own tile and step `step`; those of the second own
/// tile and the next step are under way to `dlogits`.
template <class Team>
__device__ void start_products(const WarpgroupTiles<Team>& tiles, int step,
                               typename Team::Scores& weights, typename Team::Scores& dlogits) {
  tiles.ring.wait_full(step);
  wgmma_fence(weights[0]);
  tiles.multiply_rows(0, step, weights[0]);
  wgmma_commit();
  tiles.ring.wait_full(step + 1);
  wgmma_fence(dlogits[0]);
  tiles.multiply_rows(1, step + 1, dlogits[0]);
  wgmma_commit();
  wgmma_wait<1>(weights[0]);
}

/// dquery of a warp's 16 queries, from row `own` of the sample on. Own tiles: query, doutput.
template <class Team>
__device__ void find_dquery(const WarpgroupTiles<Team>& tiles, const Item& item, const Head& h,
                            int own, int keys, float* saved) {
  const AttentionProblem<BFloat16>& p = item.problem;
  QueryState states[2];
  find_states(item, h, own, states);
  save_states(saved, h, own, states);
  const auto state_of = [&](int, int e) { return states[e / 2]; };
  typename Team::Rows dquery = {};
  mbarrier_wait(tiles.own_full, 0);
  for (int other = 0, step = 0; other < keys; other += Team::kOtherRows, step += 2) {
    typename Team::Scores weights, dlogits;
    start_products(tiles, step, weights, dlogits);
    to_logits<false, false>(p, h, own, other, weights);
    to_probabilities(state_of, weights);
    const Mask mask(p, kept_of_tile<false, Team::kOtherRows / 8>(p, h, own, other));
    wgmma_wait<0>(dlogits[0]);
    tiles.ring.release(step + 1);
    to_dlogits(weights, mask, state_of, dlogits);
    Bf16Factors::Left factors[Team::kOtherRows / 16];
    factors_of(dlogits, factors);

    wgmma_fence(dquery[0]);
    tiles.add_weighted_rows(factors, step, dquery[0]);
    wgmma_commit();
    wgmma_wait<0>(dquery[0]);
    tiles.ring.release(step);
  }
  store_rows<Team>(dquery, {p.scale, p.scale}, h.query_rows(item.dquery, p.query_stride), own);
}

/// dkey and dvalue of a warp's 16 keys. Own tiles: key, value. The other side is the queries, from
/// `first` on, in steps of query and doutput.
template <class Team>
__device__ void find_dkey_dvalue(const WarpgroupTiles<Team>& tiles, const Item& item, const Head& h,
                                 int own, int first, const float* states) {
  const AttentionProblem<BFloat16>& p = item.problem;
  typename Team::Rows dkey = {}, dvalue = {};
  mbarrier_wait(tiles.own_full, 0);
  for (int other = first, step = 0; other < h.queries; other += Team::kOtherRows, step += 2) {
    const auto state_of = [&](int n, int e) {
      const int i = other + 8 * n + lane_of_warp() % 4 * 2 + e % 2;
      return i < h.queries ? QueryState{states[2 * i], states[2 * i + 1]} : QueryState{};
    };
    typename Team::Scores weights, masked, dlogits;
    start_products(tiles, step, weights, dlogits);
    to_logits<true, false>(p, h, own, other, weights);
    to_probabilities(state_of, weights);
    const Mask mask(p, kept_of_tile<true, Team::kOtherRows / 8>(p, h, own, other));
    for (int n = 0; n < Team::kOtherRows / 8; ++n) {
      for (int e = 0; e < 4; ++e) masked[0][n][e] = mask(n, e) * weights[0][n][e];
    }
    Bf16Factors::Left factors[Team::kOtherRows / 16];
    factors_of(masked, factors);
    wgmma_wait<0>(dlogits[0]);
    wgmma_fence(dvalue[0]);
    tiles.add_weighted_rows(factors, step + 1, dvalue[0]);
    wgmma_commit();
    to_dlogits(weights, mask, state_of, dlogits);
    Bf16Factors::Left dfactors[Team::kOtherRows / 16];
    factors_of(dlogits, dfactors);
    wgmma_fence(dkey[0]);
    tiles.add_weighted_rows(dfactors, step, dkey[0]);
    wgmma_commit();
    wgmma_wait<0>(dvalue[0], dkey[0]);
    tiles.ring.release(step);
    tiles.ring.release(step + 1);
  }
  store_rows<Team>(dkey, {p.scale, p.scale}, h.key_rows(item.dkey, p.key_stride), own);
  store_rows<Team>(dvalue, {1.0F, 1.0F}, h.key_rows(item.dvalue, p.value_stride), own);
}

/// The block's own tiles, and those of the other side in turn, from row `first` to `end`.
template <class Team, bool kOfKeys>
__device__ void copy_tiles(const WarpgroupTiles<Team>& tiles, const Block<Team, kOfKeys>& block,
                           const TensorMap (&maps)[4], int first, int end) {
  const BoxSource query = block.query_rows(maps[0]), doutput = block.query_rows(maps[3]);
  const BoxSource key = block.key_rows(maps[1]), value = block.key_rows(maps[2]);
  tiles.copy_own(block.begin, kOfKeys ? key : query, kOfKeys ? value : doutput);
  int patched = 0;
  for (int other = first, step = 0; other < end; other += Team::kOtherRows, step += 2) {
    tiles.copy_other(step, kOfKeys ? query : key, other, patched);
    tiles.copy_other(step + 1, kOfKeys ? doutput : value, other, patched);
  }
}

template <class Team, bool kOfKeys>
__device__ void backward_block(const AttentionBackward<BFloat16>& a, const AttentionTeams& teams,
                               const Maps& maps) {
  CMIR_DYNAMIC_SHARED(BFloat16, memory);
  CMIR_SHARED(Mbarrier, barriers, [Team::kBarriers]);
  const auto work = [&](const auto& use) {
    const Block<Team, kOfKeys> block(a, teams);
    const Head& h = block.h;
    if (!h.is_long() || block.begin >= (kOfKeys ? h.keys : h.queries)) return;
    const WarpgroupTiles<Team> tiles(memory, barriers);
    // Whole tiles, so that a key's sums do not depend on the keys before it.
    const int first =
        kOfKeys ? h.first_seeing(block.begin) / Team::kOtherRows * Team::kOtherRows : 0;
    use(tiles, block, first,
        kOfKeys ? h.queries : h.keys_seen_before(block.begin + Team::kOwnRows));
  };
  share_work(
      [&] {
        work([&](const auto& tiles, const auto& block, int first, int end) {
          if (threadIdx.x >= 32) return;
          copy_tiles<Team, kOfKeys>(tiles, block, maps.of[block.task.item], first, end);
        });
      },
      [&] {
        work([&](const auto& tiles, const auto& block, int first, int end) {
          const Item& item = a.items[block.task.item];
          float* states = states_of(a, teams, block.task);
          const int own = block.begin + Team::warp_row();
          if constexpr (kOfKeys) {
            find_dkey_dvalue(tiles, item, block.h, own, first, states);
          } else {
            find_dquery(tiles, item, block.h, own, end, states);
          }
        });
      });
}

template <class Team, bool kOfKeys>
__global__ void __launch_bounds__(Team::kThreads, 1)
    attention_backward_warpgroup_kernel(const __grid_constant__ AttentionBackward<BFloat16> a,
                                        const __grid_constant__ AttentionTeams teams,
                                        const __grid_constant__ Maps maps) {
  if constexpr (kHasWarpgroups && sizeof(Team) > 0) {  // dependent, so that it can be left out
    backward_block<Team, kOfKeys>(a, teams, maps);
  }
}

template <int kWidth>
void launch_backward(const AttentionBackward<BFloat16>& a, const Maps& maps) {
  using Team = WarpgroupTeam<kWidth, 64, 2>;
  const AttentionTeams queries =
      warpgroup_teams<Team>(a, [](const auto& item) { return item.problem.most_queries; });
  if (queries.first[queries.count] == 0) return;
  launch(attention_backward_warpgroup_kernel<Team, false>, warpgroup_configuration<Team>(queries),
         a, queries, maps);
  const AttentionTeams keys =
      warpgroup_teams<Team>(a, [](const auto& item) { return item.problem.most_keys; });
  launch(attention_backward_warpgroup_kernel<Team, true>, warpgroup_configuration<Team>(keys), a,
         keys, maps);
}

}  // namespace

void backward_on_warpgroups(const AttentionBackward<BFloat16>& a) {
  Maps maps{};
  if (!make_maps(a, maps)) return;
  if (a.items[0].problem.head_width <= 64) return launch_backward<64>(a, maps);
  launch_backward<128>(a, maps);
}

}  // namespace cmir::kernels::CMIR_DEVICE
