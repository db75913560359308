#include "kernels/attention/attention_softmax.cuh"
#include "kernels/attention/attention_warpgroups.h"

// A team walks over the keys of its queries with a running softmax in registers (Dao 2023,
// FlashAttention-2).
namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <class Team>
__global__ void __launch_bounds__(Team::kForwardThreads, Team::kForwardBlocks)
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
  if (begin >= h.queries || teams.left_out(task, h)) return;
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

  store_forward<Team>(item, h, own, softmax, output);
}

template <class T>
void forward(const AttentionForward<T>& a) {
  check_device_group(a);
  const auto queries = [](const auto& item) { return item.problem.most_queries; };
  const AttentionLaunch shape =
      attention_launch(a.items[0].problem.head_width, largest_of(a, queries),
                       largest_of(a, [](const auto& item) { return item.problem.most_keys; }), 1,
                       sizeof(T), most_shared_bytes());
  const AttentionTeams teams = number_teams(
      a, shape,
      [&](const auto& item) { return (queries(item) + shape.team_rows() - 1) / shape.team_rows(); },
      [](const auto& item) { return item.problem.samples * item.problem.heads; });
  if (teams.first[a.count] == 0) return;
  with_team<1>(a, shape, [&](auto team) {
    launch(attention_forward_kernel<decltype(team)>, configuration_of(shape, teams), a, teams);
  });
  if constexpr (std::is_same_v<T, BFloat16>) forward_on_warpgroups(a);
}

const RegisterDevice registered{&forward<float>, &forward<BFloat16>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
