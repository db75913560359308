// A block's 16 rows against 32 others at a time: squared distances, and sums of weighted
// differences.
#pragma once

#include "kernels/cuda/device.h"

namespace cmir::kernels::CMIR_DEVICE {

inline constexpr int kBlockRows = 16;  // of a block
inline constexpr int kPairLanes = 32;  // rows that they meet at a time, and features held
inline constexpr int kPairWarps = 4, kPairThreads = 32 * kPairWarps;
inline constexpr int kPairPitch = kPairLanes + 1;  // rows of a tile lie a bank apart
inline constexpr int kPairTileSize = kBlockRows * kPairPitch;
inline constexpr int kPairOthersSize = kPairLanes * kPairPitch;
/// Shared memory [rows, kPairPitch].
using SharedTile = SharedPointer<float>;

struct RowMatrix {
  const float* x;  // [rows, width]
  std::int64_t rows, width;
};

/// Features [feature, feature + 32) of rows [first, first + count); zeros beyond.
__device__ inline void load_tile(const RowMatrix& rows, std::int64_t first, unsigned count,
                                 std::int64_t feature, const SharedTile& tile) {
  const unsigned lane = threadIdx.x % 32;
  for (unsigned i = threadIdx.x / 32; i < count; i += kPairWarps) {
    const bool there = first + i < rows.rows && feature + lane < rows.width;
    tile[i * kPairPitch + lane] = there ? rows.x[(first + i) * rows.width + feature + lane] : 0.0F;
  }
}

/// The block's rows from first_i on, and those from first_j on, feature by feature.
__device__ inline void load_tiles(const RowMatrix& rows, std::int64_t first_i, std::int64_t first_j,
                                  std::int64_t feature, const SharedTile& own,
                                  const SharedTile& others) {
  __syncthreads();  // everyone has read the tiles before, or written what is read next
  load_tile(rows, first_i, kBlockRows, feature, own);
  load_tile(rows, first_j, kPairLanes, feature, others);
  __syncthreads();
}

/// Calls body(row, lane) for the pairs of the running thread: its lane of every kPairWarps-th row.
template <class Body>
__device__ void for_own_pairs(const Body& body) {
  for (unsigned row = threadIdx.x / 32; row < kBlockRows; row += kPairWarps) {
    body(row, threadIdx.x % 32);
  }
}

/// pairs[i][j] = |x_i - x_j|^2; a thread writes its own pairs. `own` and `others` are scratch.
__device__ inline void measure_distances(const RowMatrix& rows, std::int64_t first_i,
                                         std::int64_t first_j, const SharedTile& own,
                                         const SharedTile& others, const SharedTile& pairs) {
  constexpr int kRows = kBlockRows / kPairWarps;
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  float distances[kRows] = {};
  for (std::int64_t feature = 0; feature < rows.width; feature += kPairLanes) {
    load_tiles(rows, first_i, first_j, feature, own, others);
    for (int c = 0; c < kPairLanes; ++c) {
      const float y = others[lane * kPairPitch + c];
      for (int r = 0; r < kRows; ++r) {
        const float difference = own[(warp + r * kPairWarps) * kPairPitch + c] - y;
        distances[r] += difference * difference;
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    pairs[(warp + r * kPairWarps) * kPairPitch + lane] = distances[r];
  }
}

/// gradient[i] = sum_j factors[i][j] (x_i - x_j), added to what is there unless first_j is 0. A
/// thread has a feature of every kPairWarps-th row.
__device__ inline void add_differences(const RowMatrix& rows, std::int64_t first_i,
                                       std::int64_t first_j, const SharedTile& own,
                                       const SharedTile& others, const SharedTile& factors,
                                       float* gradient) {
  for (std::int64_t feature = 0; feature < rows.width; feature += kPairLanes) {
    load_tiles(rows, first_i, first_j, feature, own, others);
    for_own_pairs([&](unsigned row, unsigned lane) {
      const float x = own[row * kPairPitch + lane];
      float sum = 0;
      for (int j = 0; j < kPairLanes; ++j) {
        const float factor = factors[row * kPairPitch + j], y = others[j * kPairPitch + lane];
        sum += factor * (x - y);
      }
      if (first_i + row >= rows.rows || feature + lane >= rows.width) return;
      float& out = gradient[(first_i + row) * rows.width + feature + lane];
      out = first_j == 0 ? sum : out + sum;
    });
  }
}

}  // namespace cmir::kernels::CMIR_DEVICE
