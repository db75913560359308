// The N x N scores of a separable critic, s_ij = scale a_i . b_j, summed through exp and
// differentiated without ever being held: the part that InfoNCE and the other bounds over all pairs
// share.
//
// The diagonal is kept apart: s_ii is a sample with its own partner, and all sums are over i != j.
// So ln(1 + sum_off exp(s - s_ii)) and its derivative keep their digits when they are small, and
// one sample alone gives empty sums rather than a special case.
//
// CPU: tiles of kPairRows x kPairColumns scores from the BLAS, or from AMX tiles in f32 and bf16
// where the CPU has them (kernels/cpu/amx.h: what is below 2^-126 is lost there, and a thread packs
// the factors of a tile beside the workspace, O(d)), which stay in a core's L2 cache while they are
// summed or weighed; a thread owns a group of columns. Where a tile's scores lie
// within kPairRange of each other, its row and column sums share one exp of each, relative to the
// largest. CUDA: tiles of kPairTile^2 on tensor cores, in f32 by three products of TF32
// (pair_tile.cuh). A block sums over a square region of tiles, and the last one of a row or column
// of regions merges them in the same launch; gradients come by blocks of dS that one kernel writes,
// and of which another does both products. Scores must be finite; a NaN gives NaN. Nothing depends
// on the number of threads.
//
// With T = BFloat16, a and b are bf16 and all else is f32, as for Gemm: scores are exact products
// summed in f32, and the factor dS of da and db (on CUDA and AMX scale dS) is rounded to bf16, to
// nearest even.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "core/host_device.h"
#include "core/parallel.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// Rows and columns of a CPU tile, rows of a band for whose da there is room in each group, and the
/// columns that fill a group beyond the fewest.
inline constexpr std::int64_t kPairRows = 128, kPairColumns = 256, kPairBand = 512,
                              kPairGroups = 16;
/// Scores of a tile so near each other share one exp: its argument's rounding is at most 1e-6.
inline constexpr int kPairRange = 32;
/// Rows and columns of a CUDA block's tile.
inline constexpr std::int64_t kPairTile = 128;
/// Bytes of the block of dS that CUDA holds, and its rows, at most. Such a block is wide and high
/// enough that what its products add to da and db is little beside it, and that they have tiles for
/// all multiprocessors.
inline constexpr std::int64_t kPairBlockBytes = std::int64_t{256} << 20, kPairBlockRows = 8192;

/// Samples up to which callers keep the CPU's scores from PairSums to PairGradient, which is a
/// product of four less for an array of at most 8 MiB.
inline constexpr std::int64_t kPairKept = 1024;

/// Columns of a group: at most kPairGroups groups, of at least 128, or of 64 where there would be
/// only one.
inline std::int64_t pair_group(std::int64_t n) {
  const auto part = [&](std::int64_t parts) { return ((n + parts - 1) / parts + 15) / 16 * 16; };
  return std::max(part(kPairGroups), std::clamp<std::int64_t>(part(2), 64, 128));
}
inline std::int64_t pair_groups(std::int64_t n) { return chunk_count(0, n, pair_group(n)); }
/// Elements of a tile, whose rows are not a power of two apart, so that they share no cache set.
inline std::int64_t pair_tile_size(std::int64_t n) {
  return std::min(n, kPairRows) * (kPairColumns + 16);
}
/// Rows, and columns, of the region that a CUDA block sums over, and columns of which it writes dS:
/// a grid of at most 32 x 32. Of few samples 16 x 16, so that blocks have several tiles, and one
/// wave of them fills an H100.
inline std::int64_t pair_region(std::int64_t n) {
  const std::int64_t regions = n > 8192 ? 32 : 16;
  return std::max<std::int64_t>(1, chunk_count(0, n, regions * kPairTile)) * kPairTile;
}
inline std::int64_t pair_block_rows(std::int64_t n) { return std::min(n, kPairBlockRows); }
/// Columns of a block of T, which are the elements between its rows too: aligned for vectors.
template <class T>
std::int64_t pair_block_columns(std::int64_t n) {
  constexpr std::int64_t most = kPairBlockBytes / kPairBlockRows / std::int64_t{sizeof(T)};
  return std::min((n + 7) / 8 * 8, most);
}

template <class T>
struct PairScores {
  const T* a;  // [n, d]
  const T* b;  // [n, d]
  std::int64_t n;
  std::int64_t d;
  double factor;              // scale = factor exp(*log_scale)
  const SumOf<T>* log_scale;  // [1], or null: scale = factor

  CMIR_HOST_DEVICE double scale() const {
    return log_scale == nullptr ? factor : factor * std::exp(static_cast<double>(*log_scale));
  }
  /// One unit: the product that gives all scores.
  double unit() const { return 2.0 * n * n * d; }
};

/// diagonal[i] = s_ii; row_largest[i] + ln row_sum[i] = ln sum_{j != i} exp(s_ij), where
/// row_largest is between the largest of these scores and kPairRange more, and row_sum is 0
/// (row_largest -inf) if there is none; columns likewise, over i != j, unless null. f32 scores of
/// magnitude L have an error of about L eps sqrt(d), and the logarithms with them. Sums are in
/// SumOf<T> within a tile (on CUDA within a region), then f64, in order. Bytes: 2 n d + 3 or 5 n
/// elements. Operations: 2 n^2 d (one unit), and about 25 or 30 n^2. Memory beside the results:
/// workspace_size and partial_size, O(n).
template <class T>
struct PairSums {
  static constexpr std::string_view name = "pair_sums";
  PairScores<T> scores;
  SumOf<T>* diagonal;        // [n]
  SumOf<T>* row_largest;     // [n]
  double* row_sum;           // [n]
  SumOf<T>* column_largest;  // [n] or null
  double* column_sum;        // [n] or null, as column_largest is
  SumOf<T>* workspace;       // [workspace_size(n)]
  double* partial;           // [partial_size(n)]
  SumOf<T>* kept = nullptr;  // [n, n] for PairGradient, on the CPU alone; or null

  /// The CPU's tile and rows' largest of each group, or CUDA's largest and sum of each row and
  /// column in each region, and counters of regions.
  static std::int64_t workspace_size(std::int64_t n) {
    const std::int64_t regions = chunk_count(0, n, pair_region(n));
    return std::max(pair_groups(n) * (pair_tile_size(n) + n), 4 * regions * n + 3 * regions + 1);
  }
  /// The CPU's rows' sums of each group.
  static std::int64_t partial_size(std::int64_t n) { return pair_groups(n) * n; }
  double bytes() const { return scores.n * (2.0 * scores.d * sizeof(T) + 5.0 * sizeof(SumOf<T>)); }
  double operations() const {
    return scores.unit() + (column_largest ? 30.0 : 25.0) * scores.n * scores.n;
  }
};

/// What PairSums leaves of the rows.
template <class T>
struct PairTotals {
  const T* diagonal;      // [n]
  const T* row_largest;   // [n]
  const double* row_sum;  // [n]
  std::int64_t n;
};

/// What PairGradient reads, as a forward kernel leaves it.
template <class T>
struct PairWeights {
  T* row_weight;       // [n], or null: none of these is wanted
  T* row_shift;        // [n]
  T* column_weight;    // [n], or null: one way only
  T* column_shift;     // [n], or null as column_weight is
  T* diagonal_weight;  // [n]
};

/// With dS_ij = c_i row_weight[i] exp(s_ij - row_shift[i]) + c_j column_weight[j] exp(s_ij -
/// column_shift[j]) for i != j, dS_ii = c_i diagonal_weight[i], and c the cotangent:
///   da = scale dS b, db = scale dS^T a; each may be null.
/// (The gradient of ln scale is sum_i a_i . da_i, for which nothing is recomputed.) A shift is at
/// least the largest score of its row or column but the diagonal's. The scores are recomputed once
/// for both, unless they were kept: three units. On the CPU no exp is below about eps^4 where a
/// tile's scores lie far apart. Bytes: 4 n d + 5 n elements,
/// and on CUDA those of dS, written once and read twice. Memory beside the results: workspace_size,
/// on the CPU at most kPairGroups (kPairBand d + kPairRows 272) elements, on CUDA a block of dS, at
/// most kPairBlockBytes.
template <class T>
struct PairGradient {
  static constexpr std::string_view name = "pair_gradient";
  PairScores<T> scores;
  const SumOf<T>* row_weight;       // [n]
  const SumOf<T>* row_shift;        // [n]
  const SumOf<T>* column_weight;    // [n], or null: zeros
  const SumOf<T>* column_shift;     // [n], or null as column_weight is
  const SumOf<T>* diagonal_weight;  // [n]
  SumOf<T>* da;                     // [n, d] or null
  SumOf<T>* db;                     // [n, d] or null
  SumOf<T>* workspace;              // [workspace_size(device, n, d)]
  const SumOf<T>* kept = nullptr;   // [n, n]: what PairSums kept, so that no score is recomputed
  const SumOf<T>* cotangent = nullptr;  // [n], or [1] where it is shared, or null: 1
  bool shared_cotangent = false;

  CMIR_HOST_DEVICE SumOf<T> cotangent_of(std::int64_t i) const {
    return cotangent == nullptr ? SumOf<T>(1) : cotangent[shared_cotangent ? 0 : i];
  }
  /// The CPU's tile of each group, and what the group adds to a band's da; on other devices CUDA's
  /// block, in T, and no less than the CPU's, whose kernels tests run there.
  static std::int64_t workspace_size(Device device, std::int64_t n, std::int64_t d) {
    const std::int64_t of_cpu = pair_groups(n) * (pair_tile_size(n) + std::min(n, kPairBand) * d);
    if (device.is_cpu()) return of_cpu;
    const std::int64_t bytes =
        pair_block_rows(n) * pair_block_columns<T>(n) * static_cast<std::int64_t>(sizeof(T));
    return std::max(of_cpu, bytes / static_cast<std::int64_t>(sizeof(SumOf<T>)));
  }
  double bytes() const {
    return scores.n * (2.0 * scores.d * sizeof(T) +
                       (2.0 * scores.d + 5 + (kept != nullptr) * scores.n) * sizeof(SumOf<T>));
  }
  double operations() const {
    return ((kept == nullptr) + 1.0 * (da != nullptr) + (db != nullptr)) * scores.unit();
  }
};

}  // namespace cmir::kernels
