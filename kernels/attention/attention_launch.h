// How the CUDA kernels of attention are cut into blocks: functions of sizes alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace cmir::kernels {

/// Threads of a team of four warps, and of a block of teams of one.
inline constexpr int kAttentionThreads = 128;
/// What a block may have of shared memory on every GPU from sm_80 on (least on sm_86, 89 and 120).
inline constexpr std::size_t kAttentionSharedBytes = 99 << 10;

/// A sample with at least so many queries and as many keys is long: where there are warpgroups
/// (sm_90a), they do it in bf16. Shorter ones would leave half of a block without rows.
inline constexpr int kAttentionLong = 128;

/// Rows of a tile of the other side, over which a team walks: half as many where registers and
/// shared memory are scarce, in backward (which has two tiles of its own) in f32 at 128 features.
constexpr int attention_other_rows(int width, int own_tiles, std::size_t element_bytes) {
  return width == 128 && own_tiles == 2 && element_bytes == 4 ? 16 : 32;
}

/// Groups of kAttentionThreads for which a multiprocessor's registers suffice.
constexpr int attention_groups(int width, int own_tiles, std::size_t element_bytes) {
  if (own_tiles == 1) return width == 32 ? 4 : width == 64 ? 3 : 2;
  return width == 32 && element_bytes == 2 ? 3 : 2;
}

/// A team of 1 or 4 warps owns 16 rows (of queries or of keys) a warp of one head of one sample. It
/// keeps `own_tiles` tiles of them in shared memory and walks over the other side's rows, of which
/// it holds two tiles, in two slots where there is more than one step to the walk: the next tiles
/// come while these are used.
struct AttentionLaunch {
  int width;        ///< of the tiles: the head's, padded to 32, 64 or 128
  int team_warps;   ///< 1 where every sample has up to 32 rows, so that no warp is without; else 4
  int block_teams;  ///< several where a team has all rows of a head: up to 64
  int slots;        ///< 1 or 2
  int other_rows;
  std::size_t team_bytes;

  int team_rows() const { return 16 * team_warps; }
  int threads() const { return 32 * team_warps * block_teams; }
  std::size_t shared_bytes() const { return team_bytes * static_cast<std::size_t>(block_teams); }
};

/// For the longest sample's `own` and `other` rows, and blocks of at most `most_bytes`, at least
/// kAttentionSharedBytes. Error-free for a head_width up to 128.
inline AttentionLaunch attention_launch(std::int64_t head_width, std::int64_t own,
                                        std::int64_t other, int own_tiles,
                                        std::size_t element_bytes, std::size_t most_bytes) {
  AttentionLaunch launch{};
  launch.width = head_width <= 32 ? 32 : head_width <= 64 ? 64 : 128;
  // A warp alone reads the other side for 16 rows only: so not where a team would be half full.
  launch.team_warps = own <= 32 && launch.width <= 64 ? 1 : 4;
  launch.other_rows = attention_other_rows(launch.width, own_tiles, element_bytes);
  launch.slots = other > launch.other_rows ? 2 : 1;
  const int rows = own_tiles * launch.team_rows() + launch.slots * 2 * launch.other_rows;
  launch.team_bytes = static_cast<std::size_t>(rows) *
                      (static_cast<std::size_t>(launch.width) * element_bytes + 16);
  const auto fitting = [&](std::size_t bytes) {
    return static_cast<int>(bytes / launch.team_bytes);
  };
  if (launch.team_warps == 1) {
    // Blocks of up to 48 KiB: four or more of them fit a multiprocessor of sm_90. Or of two teams.
    const int teams = std::max(2, fitting(std::size_t{48} << 10));
    launch.block_teams =
        std::clamp(std::min(teams, fitting(most_bytes)), 1, kAttentionThreads / 32);
  } else {
    // So many that whole blocks take the registers.
    const int teams = attention_groups(launch.width, own_tiles, element_bytes) == 3 ? 3 : 2;
    const bool whole = own <= launch.team_rows();  // a team has all of a sample
    launch.block_teams = whole ? std::clamp(fitting(most_bytes), 1, teams) : 1;
  }
  return launch;
}

}  // namespace cmir::kernels
