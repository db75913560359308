// What the CUDA kernels of attention share: teams of warps, tiles in shared memory, masks.
//
// A warp has 16 rows of a matrix of scores (its own side: queries, or keys where a comment says
// transposed) and all columns (a tile of the other side), in the layout of a product's result: with
// group = lane / 4 and pair = lane % 4, element e of tile n is row group + 8 (e / 2), column
// 8 n + 2 pair + e % 2.
#pragma once

#include <limits>
#include <type_traits>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_launch.h"
#include "kernels/cuda/random.cuh"
#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/tensor_tile.cuh"

namespace cmir::kernels::CMIR_DEVICE {

constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kLog2E = 1.44269504F, kLn2 = 0.693147181F;

/// Of a launch: problem i has the teams first[i] .. first[i + 1], tiles[i] of them for each head
/// (and sample), and its queries' states (backward) from states[i] on in the workspace.
struct AttentionTeams {
  int first[kAttentionProblems + 1], tiles[kAttentionProblems], count, elements;
  std::int64_t states[kAttentionProblems];
  bool on_warpgroups[kAttentionProblems];  ///< its long samples

  template <class Task, class Head>
  __device__ bool left_out(const Task& task, const Head& h) const {
    return on_warpgroups[task.item] && h.is_long();
  }
};
static_assert(sizeof(AttentionBackward<float>) + sizeof(AttentionTeams) <= 4096,
              "what a kernel takes as arguments");

/// kWarps warps with 16 rows each; tiles of kWidth features, the other side's of kOtherRows rows.
template <class Factors_, int kWidth_, int kWarps_, int kOtherRows_>
struct AttentionTeam {
  using Factors = Factors_;
  using Element = typename Factors::Element;
  static constexpr int kWidth = kWidth_, kWarps = kWarps_, kThreads = 32 * kWarps;
  static constexpr int kRows = 16 * kWarps, kStride = tile_stride<Element>(kWidth);
  static constexpr int kOtherRows = kOtherRows_, kOtherSize = kOtherRows * kStride;
  static constexpr int kForwardGroups = attention_groups(kWidth, 1, sizeof(Element));
  static constexpr int kBackwardGroups = attention_groups(kWidth, 2, sizeof(Element));
  /// Threads of a block, at most, and such blocks on a multiprocessor, at least.
  static constexpr int kForwardThreads = kAttentionThreads * (kWarps == 4 ? kForwardGroups : 1);
  static constexpr int kForwardBlocks = kWarps == 4 ? 1 : kForwardGroups;
  static constexpr int kBackwardThreads = kAttentionThreads * (kWarps == 4 ? kBackwardGroups : 1);
  static constexpr int kBackwardBlocks = kWarps == 4 ? 1 : kBackwardGroups;
  using Scores = float[1][kOtherRows / 8][4];
  using Rows = float[1][kWidth / 8][4];  ///< a warp's rows of a result

  static __device__ int thread() { return static_cast<int>(threadIdx.x) % kThreads; }
  static __device__ int in_block() { return static_cast<int>(threadIdx.x) / kThreads; }
  static __device__ int index() {
    return static_cast<int>(blockIdx.x * (blockDim.x / kThreads)) + in_block();
  }
  static __device__ int warp_row() { return thread() / 32 * 16; }
  static __device__ void barrier() {
    if constexpr (kWarps == 1) {
      __syncwarp();
    } else {
      // A block's teams, up to three, have walks of different lengths.
      if (in_block() == 0) named_barrier<1>(kThreads);
      if (in_block() == 1) named_barrier<2>(kThreads);
      if (in_block() == 2) named_barrier<3>(kThreads);
    }
  }
};

/// What a team works on. item = count: nothing.
struct AttentionTask {
  int item = 0, tile, head, sample;

  __device__ AttentionTask(const AttentionTeams& teams, int team, int heads) {
    while (item < teams.count && team >= teams.first[item + 1]) ++item;
    if (item == teams.count) return;
    const int rank = team - teams.first[item];
    tile = rank % teams.tiles[item];
    head = rank / teams.tiles[item] % heads;
    sample = rank / teams.tiles[item] / heads;
  }
};

/// Rows of one head of one sample in a matrix.
template <class T>
struct HeadRows {
  T* first;
  int stride, rows, width;

  __device__ T* row(int i) const { return first + std::int64_t{i} * stride; }
};

/// One head of one sample.
template <class T>
struct AttentionHead {
  std::int64_t first_query, first_key;
  int head, queries, keys, width;
  bool causal;

  __device__ AttentionHead(const AttentionProblem<T>& p, int sample, int h)
      : first_query(p.query_begins[sample]),
        first_key(p.key_begins[sample]),
        head(h),
        queries(static_cast<int>(p.query_ends[sample] - first_query)),
        keys(static_cast<int>(p.key_ends[sample] - first_key)),
        width(static_cast<int>(p.head_width)),
        causal(p.causal) {}

  template <class U>
  __device__ HeadRows<U> query_rows(U* matrix, std::int64_t stride) const {
    return {matrix + first_query * stride + head * width, static_cast<int>(stride), queries, width};
  }
  template <class U>
  __device__ HeadRows<U> key_rows(U* matrix, std::int64_t stride) const {
    return {matrix + first_key * stride + head * width, static_cast<int>(stride), keys, width};
  }
  /// Whether query i sees key j, either of which may be past the last one.
  __device__ bool sees(int i, int j) const {
    return i < queries && j < keys && (!causal || j <= i + keys - queries);
  }
  /// Whether each of the queries first .. first + count - 1 sees each of those keys.
  __device__ bool sees_all(int first_query_of, int query_count, int first_key_of,
                           int key_count) const {
    return first_query_of + query_count <= queries &&
           sees(first_query_of, first_key_of + key_count - 1);
  }
  __device__ bool is_long() const { return queries >= kAttentionLong && keys >= kAttentionLong; }
  /// Keys that some query below `end` sees: the first ones.
  __device__ int keys_seen_before(int end) const {
    return causal ? max(0, min(keys, min(end, queries) + keys - queries)) : keys;
  }
  /// The first query that sees key j.
  __device__ int first_seeing(int j) const { return causal ? max(0, j + queries - keys) : 0; }
};

/// `count` rows of `from` from `begin` on to a tile, kBytes at a time; zeros where there are none.
/// Up to 32 lanes have a row.
template <int kBytes, class Team, class T>
__device__ void copy_rows(const SharedPointer<T>& tile, int count, const HeadRows<const T>& from,
                          int begin) {
  constexpr int kSize = kBytes / static_cast<int>(sizeof(T));
  constexpr int kLanes = Team::kWidth / kSize < 32 ? Team::kWidth / kSize : 32;
  const int lane = Team::thread() % kLanes;
#pragma unroll 1
  for (int r = Team::thread() / kLanes; r < count; r += Team::kThreads / kLanes) {
    const T* row = from.row(begin + r);
#pragma unroll 1
    for (int d = kSize * lane; d < Team::kWidth; d += kSize * kLanes) {
      const int left = begin + r < from.rows ? max(0, min(from.width - d, kSize)) : 0;
      const T* source = left > 0 ? row + d : from.first;
      const auto target = tile + (r * Team::kStride + d);
      if constexpr (kBytes == 16) {
        cp_async_16(target, source, left * static_cast<int>(sizeof(T)));
      } else if constexpr (kBytes == 8) {
        cp_async_8(target, source, left * static_cast<int>(sizeof(T)));
      } else if constexpr (kBytes == 4) {
        cp_async_4(target, source, left * static_cast<int>(sizeof(T)));
      } else {
        T value(0.0F);
        if (left > 0) value = *source;
        *target = value;
      }
    }
  }
}

/// Starts to copy, in as large pieces as the rows' alignment allows.
template <class Team, class T>
__device__ void load_rows(const SharedPointer<T>& tile, int count, const HeadRows<const T>& from,
                          int begin) {
  const std::uintptr_t place = reinterpret_cast<std::uintptr_t>(from.first) |
                               static_cast<std::uintptr_t>(from.stride) * sizeof(T);
  if (place % 16 == 0) {
    copy_rows<16, Team>(tile, count, from, begin);
  } else if (place % 8 == 0) {
    copy_rows<8, Team>(tile, count, from, begin);
  } else if (sizeof(T) == 4 || place % 4 == 0) {
    copy_rows<4, Team>(tile, count, from, begin);
  } else {
    copy_rows<sizeof(T), Team>(tile, count, from, begin);
  }
}

/// The same rows of two matrices to tiles one behind the other.
template <class Team, class T>
__device__ void load_rows(const SharedPointer<T>& tiles, int count, const HeadRows<const T>& first,
                          const HeadRows<const T>& second, int begin) {
  load_rows<Team>(tiles, count, first, begin);
  load_rows<Team>(tiles + count * Team::kStride, count, second, begin);
}

/// Calls load(begin, slot) and then use(begin, slot) for each tile of the other side from `first`
/// to `end`; the next tile is on its way while one is used.
template <class Team, class Load, class Use>
__device__ void walk_tiles(int first, int end, const Load& load, const Use& use) {
  if (first >= end) return;
  for (int next = first, slot = 0;; next += Team::kOtherRows, slot = 1 - slot) {
    if (next > first) {
      cp_async_wait_group<0>();
      Team::barrier();  // the tile before has come, and the one before that has been used
    }
    if (next < end) load(next, slot);
    cp_async_commit();
    if (next > first) use(next - Team::kOtherRows, 1 - slot);
    if (next >= end) return;
  }
}

/// Products q.k become logits in base 2, log2(e) (scale q.k + bias), -inf where the query does not
/// see the key. The warp's own rows begin with row `own` of the sample, the other side's with
/// `other`. Not kBias: the problem has none.
template <bool kTransposed, bool kBias = true, class T, int kTiles>
__device__ void to_logits(const AttentionProblem<T>& p, const AttentionHead<T>& h, int own,
                          int other, float (&scores)[1][kTiles][4]) {
  const float factor = kLog2E * p.scale;
  for (int n = 0; n < kTiles; ++n) {
    for (int e = 0; e < 4; ++e) scores[0][n][e] *= factor;
  }
  const bool all =
      kTransposed ? h.sees_all(other, 8 * kTiles, own, 16) : h.sees_all(own, 16, other, 8 * kTiles);
  if (all && !(kBias && p.bias != nullptr)) return;
  const int mine = own + lane_of_warp() / 4, its = other + lane_of_warp() % 4 * 2;
  for (int n = 0; n < kTiles; ++n) {
    for (int e = 0; e < 4; ++e) {
      const int row = mine + e / 2 * 8, column = its + 8 * n + e % 2;
      const int i = kTransposed ? column : row, j = kTransposed ? row : column;
      if (!h.sees(i, j)) {
        scores[0][n][e] = kMinusInfinity;
      } else if (kBias && p.bias != nullptr) {
        scores[0][n][e] += kLog2E * p.bias[(h.head * p.bias_queries + i) * p.bias_keys + j];
      }
    }
  }
}

/// Bits 4 group .. 4 group + 3 of the keys' that dropout keeps for a query: keys 4 block and on.
template <class T>
__device__ unsigned kept_of_four(const AttentionProblem<T>& p, std::int64_t query,
                                 std::int64_t head, int block) {
  const auto words =
      random_words(p.stream, (static_cast<std::uint64_t>(query * p.heads + head) << 22) +
                                 static_cast<std::uint64_t>(block));
  unsigned kept = 0;
  for (int k = 0; k < 4; ++k) {
    kept |= static_cast<unsigned>(RandomStream::uniform_of(words[k]) >= p.dropout) << k;
  }
  return kept;
}

/// Bit e: whether dropout keeps the thread's element e of tile n; first_query: the sample's. Each
/// lane draws four, which are of four keys of one query, and gets what it needs of its neighbours'.
template <bool kTransposed, class T>
__device__ unsigned kept_elements(const AttentionProblem<T>& p, std::int64_t first_query, int head,
                                  int own, int other, int n) {
  const int group = lane_of_warp() / 4, pair = lane_of_warp() % 4;
  if constexpr (kTransposed) {
    const int odd = group % 2, half = group / 2 % 2, in_four = group % 4;
    unsigned kept = kept_of_four(p, first_query + other + 8 * n + 2 * pair + odd, head,
                                 (own + 8 * half) / 4 + group / 4)
                    << (4 * (2 * half + odd));
    kept |= __shfl_xor_sync(0xFFFFFFFF, kept, 4);
    kept |= __shfl_xor_sync(0xFFFFFFFF, kept, 8);
    kept >>= in_four;
    return (kept & 1) | (kept >> 3 & 2) | (kept >> 6 & 4) | (kept >> 9 & 8);
  } else {
    const int odd = pair % 2;
    const unsigned drawn =
        kept_of_four(p, first_query + own + group + 8 * odd, head, (other + 8 * n) / 4 + pair / 2);
    const unsigned received = __shfl_xor_sync(0xFFFFFFFF, drawn, 1);
    const unsigned low = odd == 0 ? drawn : received, high = odd == 0 ? received : drawn;
    return (low >> (2 * odd) & 3) | (high >> (2 * odd) & 3) << 2;
  }
}

/// Bit 4 n + e: whether dropout keeps the thread's element e of tile n. Neither inlined nor
/// unrolled: a kernel has no registers for the keys of ten rounds, which never change.
template <bool kTransposed, int kTiles, class T>
[[gnu::noinline]] __device__ unsigned draw_tile(const AttentionProblem<T>& p,
                                                std::int64_t first_query, int head, int own,
                                                int other) {
  unsigned kept = 0;
#pragma unroll 1
  for (int n = 0; n < kTiles; ++n) {
    kept |= kept_elements<kTransposed>(p, first_query, head, own, other, n) << (4 * n);
  }
  return kept;
}
template <bool kTransposed, int kTiles, class T>
__device__ unsigned kept_of_tile(const AttentionProblem<T>& p, const AttentionHead<T>& h, int own,
                                 int other) {
  if (p.dropout == 0) return ~0U;
  return draw_tile<kTransposed, kTiles>(p, h.first_query, h.head, own, other);
}

/// Over the four lanes that share a row.
template <class Operation>
__device__ float row_of_four(float value, const Operation& operation) {
  value = operation(value, __shfl_xor_sync(0xFFFFFFFF, value, 1));
  return operation(value, __shfl_xor_sync(0xFFFFFFFF, value, 2));
}

/// The warp's rows from `row` on of a result, times factors[half], to a matrix.
template <class Team>
__device__ void store_rows(const typename Team::Rows& sums, const float (&factors)[2],
                           const HeadRows<float>& to, int row) {
  const bool pairs = to.stride % 2 == 0 && is_vector_aligned<2>(to.first);
  for (int half = 0; half < 2; ++half) {
    const int i = row + lane_of_warp() / 4 + 8 * half;
    if (i >= to.rows) continue;
    float* place = to.row(i);
    for (int n = 0; n < Team::kWidth / 8; ++n) {
      const int d = 8 * n + lane_of_warp() % 4 * 2;
      const Vector<float, 2> values{factors[half] * sums[0][n][2 * half],
                                    factors[half] * sums[0][n][2 * half + 1]};
      if (pairs && d + 1 < to.width) {
        store_vector(place + d, values);
      } else if (d < to.width) {
        place[d] = values[0];
        if (d + 1 < to.width) place[d + 1] = values[1];
      }
    }
  }
}

// ---- Launches.

/// Whether this device does the long samples of an item by the kernels for warpgroups (sm_90a),
/// which have no registers for a bias.
template <class Item>
bool on_warpgroups(const Item& item) {
  const auto& p = item.problem;
  if constexpr (!std::is_same_v<std::remove_cvref_t<decltype(*p.query)>, BFloat16>) {
    return false;
  } else {
    const std::int64_t width = p.head_width;
    bool taken = device_has_warpgroups() && p.bias == nullptr && width > 32 &&
                 p.most_queries >= kAttentionLong && p.most_keys >= kAttentionLong &&
                 takes_tensor_map(p.query, width, p.query_rows, p.query_stride) &&
                 takes_tensor_map(p.key, width, p.key_rows, p.key_stride) &&
                 takes_tensor_map(p.value, width, p.key_rows, p.value_stride);
    if constexpr (requires { item.doutput; }) {
      taken = taken && takes_tensor_map(item.doutput, width, p.query_rows, p.width());
    }
    return taken;
  }
}

/// Numbers the teams; `tiles_of(item)` and `count_of(item)` say how many tiles a head has, and how
/// many teams a problem.
template <class Args, class Tiles, class Count>
AttentionTeams number_teams(const Args& a, const AttentionLaunch& shape, const Tiles& tiles_of,
                            const Count& count_of) {
  AttentionTeams teams{};
  teams.count = a.count;
  teams.elements = static_cast<int>(shape.team_bytes / sizeof(typename ScalarOf<Args>::type));
  std::int64_t total = 0, states = 0;
  for (int i = 0; i < a.count; ++i) {
    const auto& p = a.items[i].problem;
    teams.states[i] = states;
    states += attention_states(p);
    teams.on_warpgroups[i] = on_warpgroups(a.items[i]);
    teams.tiles[i] = static_cast<int>(tiles_of(a.items[i]));
    total += count_of(a.items[i]) * teams.tiles[i];
    require(total < std::int64_t{1} << 31, Args::name, "{} tiles are too many for one call", total);
    teams.first[i + 1] = static_cast<int>(total);
  }
  return teams;
}

template <class Factors, int kOwnTiles, int kWidth, class F>
void with_team_of(const AttentionLaunch& shape, const F& f) {
  constexpr int other_rows =
      attention_other_rows(kWidth, kOwnTiles, sizeof(typename Factors::Element));
  if constexpr (kWidth < 128) {
    if (shape.team_warps == 1) return f(AttentionTeam<Factors, kWidth, 1, other_rows>{});
  }
  f(AttentionTeam<Factors, kWidth, 4, other_rows>{});
}
template <class Factors, int kOwnTiles, class F>
void with_team_of(const AttentionLaunch& shape, const F& f) {
  if (shape.width == 32) return with_team_of<Factors, kOwnTiles, 32>(shape, f);
  if (shape.width == 64) return with_team_of<Factors, kOwnTiles, 64>(shape, f);
  with_team_of<Factors, kOwnTiles, 128>(shape, f);
}
/// f(AttentionTeam<...>{}) for the arguments' element type and precision and the launch's shape.
template <int kOwnTiles, class Args, class F>
void with_team(const Args& a, const AttentionLaunch& shape, const F& f) {
  if constexpr (std::is_same_v<typename ScalarOf<Args>::type, BFloat16>) {
    with_team_of<Bf16Factors, kOwnTiles>(shape, f);
  } else if (a.tf32) {
    with_team_of<Tf32Factors<false>, kOwnTiles>(shape, f);
  } else {
    with_team_of<Tf32Factors<true>, kOwnTiles>(shape, f);
  }
}

inline LaunchConfig configuration_of(const AttentionLaunch& shape, const AttentionTeams& teams) {
  const int blocks = (teams.first[teams.count] + shape.block_teams - 1) / shape.block_teams;
  return {.grid = dim3(static_cast<unsigned>(blocks)),
          .block = dim3(static_cast<unsigned>(shape.threads())),
          .shared_bytes = shape.shared_bytes()};
}

template <class Args>
void check_device_group(const Args& a) {
  check_attention_group(a);
  require(a.items[0].problem.head_width <= kAttentionDeviceWidth, Args::name,
          "heads of {} features; a CUDA device takes up to {}; use more heads",
          a.items[0].problem.head_width, kAttentionDeviceWidth);
  for (int i = 0; i < a.count; ++i) {
    const auto& p = a.items[i].problem;
    const std::int64_t stride = std::max({p.query_stride, p.key_stride, p.value_stride});
    require(stride < std::int64_t{1} << 31, Args::name,
            "rows {} elements apart; a CUDA device takes less than 2^31", stride);
  }
}

/// The largest of f(item) over a group.
template <class Args, class F>
std::int64_t largest_of(const Args& a, const F& f) {
  std::int64_t largest = 0;
  for (int i = 0; i < a.count; ++i) largest = std::max<std::int64_t>(largest, f(a.items[i]));
  return largest;
}

}  // namespace cmir::kernels::CMIR_DEVICE
