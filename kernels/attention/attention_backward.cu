#include "kernels/attention/attention_backward.cuh"
#include "kernels/attention/attention_warpgroups.h"

// Three kernels that recompute the probabilities: teams of queries for dquery, of keys for dkey and
// dvalue (on transposed scores), of both for dbias. The first leaves what the others want to know
// of each query, its state, in the workspace.
namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// dl of a warp's queries from row `own` of the sample on and a tile of keys from `other` on.
template <class Team>
__device__ void find_dlogits(const AttentionProblem<typename Team::Element>& p,
                             const AttentionHead<typename Team::Element>& h, int own, int other,
                             const SharedPointer<typename Team::Element>& query,
                             const SharedPointer<typename Team::Element>& doutput,
                             const SharedPointer<typename Team::Element>& key,
                             const QueryState (&states)[2], typename Team::Scores& dlogits) {
  using Factors = typename Team::Factors;
  constexpr int tiles = Team::kOtherRows / 8;
  const int row = Team::warp_row() * Team::kStride;
  const auto state_of = [&](int, int e) { return states[e / 2]; };
  typename Team::Scores weights = {};
  add_row_products<Factors, Team::kWidth>(query + row, key, weights);
  to_logits<false>(p, h, own, other, weights);
  to_probabilities(state_of, weights);
  add_row_products<Factors, Team::kWidth>(doutput + row, key + Team::kOtherSize, dlogits);
  to_dlogits(weights, Mask(p, kept_of_tile<false, tiles>(p, h, own, other)), state_of, dlogits);
}

template <class Team>
__global__ void __launch_bounds__(Team::kBackwardThreads, Team::kBackwardBlocks)
    attention_dquery_kernel(const __grid_constant__ AttentionBackward<typename Team::Element> a,
                            const __grid_constant__ AttentionTeams teams) {
  using T = typename Team::Element;
  using Factors = typename Team::Factors;
  CMIR_DYNAMIC_SHARED(T, memory);
  const AttentionTask task(teams, Team::index(), static_cast<int>(a.items[0].problem.heads));
  if (task.item == teams.count) return;
  const auto& item = a.items[task.item];
  const AttentionProblem<T>& p = item.problem;
  const AttentionHead<T> h(p, task.sample, task.head);
  const int begin = task.tile * Team::kRows, own = begin + Team::warp_row();
  if (begin >= h.queries || teams.left_out(task, h)) return;
  const auto query = memory + Team::in_block() * teams.elements;
  const auto doutput = query + Team::kRows * Team::kStride;
  const auto others = doutput + Team::kRows * Team::kStride;
  const int keys = h.keys_seen_before(begin + Team::kRows);
  if (keys > 0) {
    load_rows<Team>(query, Team::kRows, h.query_rows(p.query, p.query_stride),
                    h.query_rows(item.doutput, p.width()), begin);
  }
  QueryState states[2];
  find_states(item, h, own, states);
  save_states(states_of(a, teams, task), h, own, states);

  typename Team::Rows dquery = {};
  walk_tiles<Team>(
      0, keys,
      [&](int other, int slot) {
        const auto key = others + 2 * slot * Team::kOtherSize;
        load_rows<Team>(key, Team::kOtherRows, h.key_rows(p.key, p.key_stride),
                        h.key_rows(p.value, p.value_stride), other);
      },
      [&](int other, int slot) {
        const auto key = others + 2 * slot * Team::kOtherSize;
        typename Team::Scores dlogits = {};
        find_dlogits<Team>(p, h, own, other, query, doutput, key, states, dlogits);
        add_weighted_rows<Factors, Team::kWidth>(dlogits, key, dquery);
      });
  store_rows<Team>(dquery, {p.scale, p.scale}, h.query_rows(item.dquery, p.query_stride), own);
}

/// A query's state in a tile lies behind its row, in the 16 bytes that part it from the next.
template <class Team>
__device__ SharedPointer<float> state_place(const SharedPointer<typename Team::Element>& tile,
                                            int row) {
  return shared_cast<float>(tile + (row * Team::kStride + Team::kWidth));
}
/// Starts to copy the states of a tile of the other side.
template <class Team>
__device__ void load_states(const SharedPointer<typename Team::Element>& tile, const float* states,
                            int begin, int queries) {
#pragma unroll 1
  for (int e = Team::thread(); e < 2 * Team::kOtherRows; e += Team::kThreads) {
    const bool inside = begin + e / 2 < queries;
    cp_async_4(state_place<Team>(tile, e / 2) + e % 2, states + (inside ? 2 * begin + e : 0),
               inside ? 4 : 0);
  }
}

/// The other side is the queries.
template <class Team>
__global__ void __launch_bounds__(Team::kBackwardThreads, Team::kBackwardBlocks)
    attention_dkey_dvalue_kernel(
        const __grid_constant__ AttentionBackward<typename Team::Element> a,
        const __grid_constant__ AttentionTeams teams) {
  using T = typename Team::Element;
  using Factors = typename Team::Factors;
  CMIR_DYNAMIC_SHARED(T, memory);
  const AttentionTask task(teams, Team::index(), static_cast<int>(a.items[0].problem.heads));
  if (task.item == teams.count) return;
  const auto& item = a.items[task.item];
  const AttentionProblem<T>& p = item.problem;
  const AttentionHead<T> h(p, task.sample, task.head);
  const int begin = task.tile * Team::kRows, own = begin + Team::warp_row();
  if (begin >= h.keys || teams.left_out(task, h)) return;
  const auto key = memory + Team::in_block() * teams.elements;
  const auto value = key + Team::kRows * Team::kStride;
  const auto others = value + Team::kRows * Team::kStride;
  const float* states = states_of(a, teams, task);
  // Whole tiles, so that a key's sums do not depend on the keys before it.
  const int first = h.first_seeing(begin) / Team::kOtherRows * Team::kOtherRows;
  if (first < h.queries) {
    load_rows<Team>(key, Team::kRows, h.key_rows(p.key, p.key_stride),
                    h.key_rows(p.value, p.value_stride), begin);
  }

  constexpr int tiles = Team::kOtherRows / 8;
  // The results of 128 features leave no registers for sums of their own.
  constexpr bool plain = Factors::kPlainSums && Team::kWidth < 128;
  typename Team::Rows dkey = {}, dvalue = {};
  walk_tiles<Team>(
      first, h.queries,
      [&](int other, int slot) {
        const auto query = others + 2 * slot * Team::kOtherSize;
        load_rows<Team>(query, Team::kOtherRows, h.query_rows(p.query, p.query_stride),
                        h.query_rows(item.doutput, p.width()), other);
        load_states<Team>(query, states, other, h.queries);
      },
      [&](int other, int slot) {
        const auto query = others + 2 * slot * Team::kOtherSize;
        const int row = Team::warp_row() * Team::kStride;
        const auto state_of = [&](int n, int e) {
          const auto place = state_place<Team>(query, 8 * n + lane_of_warp() % 4 * 2 + e % 2);
          return QueryState{place[0], place[1]};
        };
        typename Team::Scores weights = {}, masked, dlogits = {};
        add_row_products<Factors, Team::kWidth>(key + row, query, weights);
        to_logits<true>(p, h, own, other, weights);
        to_probabilities(state_of, weights);
        const Mask mask(p, kept_of_tile<true, tiles>(p, h, own, other));
        for (int n = 0; n < tiles; ++n) {
          for (int e = 0; e < 4; ++e) masked[0][n][e] = mask(n, e) * weights[0][n][e];
        }
        add_weighted_rows<Factors, Team::kWidth, plain>(masked, query + Team::kOtherSize, dvalue);
        add_row_products<Factors, Team::kWidth>(value + row, query + Team::kOtherSize, dlogits);
        to_dlogits(weights, mask, state_of, dlogits);
        add_weighted_rows<Factors, Team::kWidth, plain>(dlogits, query, dkey);
      });
  store_rows<Team>(dkey, {p.scale, p.scale}, h.key_rows(item.dkey, p.key_stride), own);
  store_rows<Team>(dvalue, {1.0F, 1.0F}, h.key_rows(item.dvalue, p.value_stride), own);
}

/// A team has some queries and a tile of keys of a head, and walks over the samples.
template <class Team>
__global__ void __launch_bounds__(Team::kBackwardThreads, Team::kBackwardBlocks)
    attention_dbias_kernel(const __grid_constant__ AttentionBackward<typename Team::Element> a,
                           const __grid_constant__ AttentionTeams teams) {
  using T = typename Team::Element;
  CMIR_DYNAMIC_SHARED(T, memory);
  AttentionTask task(teams, Team::index(), static_cast<int>(a.items[0].problem.heads));
  if (task.item == teams.count) return;
  const auto& item = a.items[task.item];
  const AttentionProblem<T>& p = item.problem;
  const int across = static_cast<int>((p.bias_keys + Team::kOtherRows - 1) / Team::kOtherRows);
  const int begin = task.tile / across * Team::kRows, own = begin + Team::warp_row();
  const int other = task.tile % across * Team::kOtherRows;
  const auto query = memory + Team::in_block() * teams.elements;
  const auto doutput = query + Team::kRows * Team::kStride;
  const auto key = doutput + Team::kRows * Team::kStride;
  typename Team::Scores sums = {};
  for (task.sample = 0; task.sample < p.samples; ++task.sample) {
    const AttentionHead<T> h(p, task.sample, task.head);
    if (begin >= h.queries || other >= h.keys_seen_before(begin + Team::kRows)) continue;
    Team::barrier();  // the last sample's tiles have been used
    load_rows<Team>(query, Team::kRows, h.query_rows(p.query, p.query_stride),
                    h.query_rows(item.doutput, p.width()), begin);
    load_rows<Team>(key, Team::kOtherRows, h.key_rows(p.key, p.key_stride),
                    h.key_rows(p.value, p.value_stride), other);
    cp_async_commit();
    const float* saved = states_of(a, teams, task);
    QueryState states[2];
    for (int half = 0; half < 2; ++half) {
      const int i = own + lane_of_warp() / 4 + 8 * half;
      if (i < h.queries) states[half] = {saved[2 * i], saved[2 * i + 1]};
    }
    cp_async_wait_group<0>();
    Team::barrier();
    typename Team::Scores dlogits = {};
    find_dlogits<Team>(p, h, own, other, query, doutput, key, states, dlogits);
    for (int n = 0; n < Team::kOtherRows / 8; ++n) {
      for (int e = 0; e < 4; ++e) sums[0][n][e] += dlogits[0][n][e];
    }
  }
  for (int n = 0; n < Team::kOtherRows / 8; ++n) {
    for (int e = 0; e < 4; ++e) {
      const std::int64_t i = own + lane_of_warp() / 4 + e / 2 * 8;
      const std::int64_t j = other + 8 * n + lane_of_warp() % 4 * 2 + e % 2;
      if (i >= p.bias_queries || j >= p.bias_keys) continue;
      item.dbias[(task.head * p.bias_queries + i) * p.bias_keys + j] = sums[0][n][e];
    }
  }
}

template <class T>
std::int64_t queries_of(const AttentionBackwardItem<T>& item) {
  return item.problem.most_queries;
}
template <class T>
std::int64_t keys_of(const AttentionBackwardItem<T>& item) {
  return item.problem.most_keys;
}

/// Launches kernel(team) for teams of rows of one side, own_of(item) of the longest sample.
template <class T, class Own, class Other, class Launch>
void launch_side(const AttentionBackward<T>& a, const Own& own_of, const Other& other_of,
                 const Launch& launch_team) {
  const AttentionLaunch shape =
      attention_launch(a.items[0].problem.head_width, largest_of(a, own_of),
                       largest_of(a, other_of), 2, sizeof(T), most_shared_bytes());
  const AttentionTeams teams = number_teams(
      a, shape,
      [&](const auto& item) { return (own_of(item) + shape.team_rows() - 1) / shape.team_rows(); },
      [](const auto& item) { return item.problem.samples * item.problem.heads; });
  if (teams.first[a.count] == 0) return;
  with_team<2>(a, shape,
               [&](auto team) { launch_team(team, configuration_of(shape, teams), teams); });
}

template <class T>
void backward_bias(const AttentionBackward<T>& a) {
  // Always whole teams, and one slot.
  const AttentionLaunch shape = attention_launch(
      a.items[0].problem.head_width, kAttentionThreads / 2, 0, 2, sizeof(T), most_shared_bytes());
  const AttentionTeams teams = number_teams(
      a, shape,
      [&](const auto& item) {
        const AttentionProblem<T>& p = item.problem;
        return (p.bias_queries + shape.team_rows() - 1) / shape.team_rows() *
               ((p.bias_keys + shape.other_rows - 1) / shape.other_rows);
      },
      [](const auto& item) { return item.dbias != nullptr ? item.problem.heads : 0; });
  if (teams.first[a.count] == 0) return;
  with_team<2>(a, shape, [&](auto team) {
    if constexpr (decltype(team)::kWarps == 4) {
      launch(attention_dbias_kernel<decltype(team)>, configuration_of(shape, teams), a, teams);
    }
  });
}

template <class T>
void backward(const AttentionBackward<T>& a) {
  check_device_group(a);
  launch_side(a, queries_of<T>, keys_of<T>,
              [&](auto team, const auto& configuration, const auto& teams) {
                launch(attention_dquery_kernel<decltype(team)>, configuration, a, teams);
              });
  launch_side(a, keys_of<T>, queries_of<T>,
              [&](auto team, const auto& configuration, const auto& teams) {
                launch(attention_dkey_dvalue_kernel<decltype(team)>, configuration, a, teams);
              });
  if constexpr (std::is_same_v<T, BFloat16>) backward_on_warpgroups(a);
  backward_bias(a);
}

const RegisterDevice registered{&backward<float>, &backward<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
