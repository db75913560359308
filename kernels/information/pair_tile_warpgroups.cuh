// The tiles of kernels/information/pair_tile.cuh on Hopper (sm_90a), in bf16: products by wgmma,
// and bulk copies. A block keeps its rows of a, all their features, in shared memory while b passes
// by: so half as many bytes come from the cache, which could not feed the tensor cores otherwise.
#pragma once

#include "kernels/cuda/tensor_map.h"
#include "kernels/information/pair_tile.cuh"

namespace cmir::kernels::CMIR_DEVICE {

/// A chunk is a panel (kernels/cuda/warpgroup.h) of 128 rows. Each of a block's two warpgroups has
/// 64 rows of a tile, and all of its columns.
class PairWarpgroupTiles : public PairLayout<16, 128> {
 public:
  using Element = BFloat16;
  static constexpr bool kHere = kHasWarpgroups;
  static constexpr int kBlocks = 2;  ///< up to 256 features; with more, shared memory holds one

  struct Source {
    TensorMap a, b;
    int slots;
  };
  static bool takes(const PairScores<BFloat16>& s) {
    return device_has_warpgroups() && s.d >= kTensorBoxWidth && s.d <= 8 * kTensorBoxWidth &&
           takes_tensor_map(s.a, s.d, s.n, s.d) && takes_tensor_map(s.b, s.d, s.n, s.d);
  }
  static Source source_of(const PairScores<BFloat16>& s) {
    return {make_tensor_map(s.a, s.d, 1, s.n, s.d), make_tensor_map(s.b, s.d, 1, s.n, s.d),
            slots_of(s)};
  }
  static std::size_t shared_bytes(const PairScores<BFloat16>& s) {
    return kChunkBytes * static_cast<std::size_t>(panels_of(s) + slots_of(s)) + 1024;
  }

  __device__ PairWarpgroupTiles(const PairScores<BFloat16>& s, const Source& source,
                                const SharedPointer<BFloat16>& memory)
      : source_(source),
        panels_(static_cast<int>(panels_of(s))),
        own_(aligned_panels(memory)),
        ring_(own_ + panels_ * kChunkSize),
        barriers_(barriers()) {
    if (threadIdx.x == 0) {
      mbarrier_init(own_full(), 1);
      for (int slot = 0; slot < source.slots; ++slot) {
        mbarrier_init(full(slot), 1);
        mbarrier_init(empty(slot), kPairThreads / 32);
      }
      fence_mbarrier_init();
    }
    __syncthreads();
  }

  /// As MmaTiles::for_each.
  template <class Use>
  __device__ void for_each(const TileRange& range, const Use& use) const {
    const int across = (range.column_end - range.column + kTile - 1) / kTile;
    const int down = (range.row_end - range.row + kTile - 1) / kTile;
    const int steps = down * across * panels_;
    for (int step = 0; step < min(source_.slots, steps); ++step) copy(range, across, step, step);
    copy_own(range.row);
    int slot = 0, parity = 0, step = 0;
    // The step before is done: its slot can be filled again.
    const auto release_last = [&] {
      const bool wrapped = slot == 0;
      release(range, across, step - 1, wrapped ? source_.slots - 1 : slot - 1,
              wrapped ? parity ^ 1 : parity, steps);
    };
    for (int r = 0; r < down; ++r) {
      const int row = range.row + r * kTile;
      mbarrier_wait(own_full(), r % 2);
      for (int column = range.column; column < range.column_end; column += kTile) {
        Scores products = {};
        for (int panel = 0; panel < panels_; ++panel) {
          mbarrier_wait(full(slot), parity);
          wgmma_fence(products[0]);
          multiply(panel, slot, products[0]);
          wgmma_commit();
          if (panel > 0) {
            wgmma_wait<1>();
            release_last();
          }
          ++step;
          if (++slot == source_.slots) {
            slot = 0;
            parity ^= 1;
          }
        }
        wgmma_wait<0>(products[0]);
        release_last();
        __syncthreads();  // all have used the tile before, and the block's own rows
        if (column + kTile >= range.column_end && r + 1 < down) copy_own(row + kTile);
        use(row, column, products);
      }
    }
  }

 private:
  static constexpr int kChunkSize = kTile * kTensorBoxWidth, kMostSlots = 4;
  static constexpr std::size_t kChunkBytes = kChunkSize * sizeof(BFloat16);
  static constexpr int kEightRows = 8 * kTensorBoxWidth * static_cast<int>(sizeof(BFloat16));

  CMIR_HOST_DEVICE static std::int64_t panels_of(const PairScores<BFloat16>& s) {
    return (s.d + kTensorBoxWidth - 1) / kTensorBoxWidth;
  }
  /// What two blocks, or one with all its panels, leave of 227 KiB: with what kernels declare
  /// beside it, up to 10 KiB.
  static int slots_of(const PairScores<BFloat16>& s) {
    const std::int64_t panels = panels_of(s), chunks = panels <= 4 ? 6 : 13;
    return static_cast<int>(std::min<std::int64_t>(kMostSlots, chunks - panels));
  }
  static __device__ SharedPointer<Mbarrier> barriers() {
    CMIR_SHARED(Mbarrier, all, [2 * kMostSlots + 1]);
    return all + 0;
  }
  __device__ SharedPointer<Mbarrier> own_full() const { return barriers_; }
  __device__ SharedPointer<Mbarrier> full(int slot) const { return barriers_ + (1 + slot); }
  __device__ SharedPointer<Mbarrier> empty(int slot) const {
    return barriers_ + (1 + kMostSlots + slot);
  }

  static __device__ void copy_chunk(const SharedPointer<BFloat16>& to, const TensorMap& map,
                                    int panel, int row, const SharedPointer<Mbarrier>& arrival) {
    for (int r = 0; r < kTile; r += kTensorBoxRows) {
      copy_tensor_box(to + r * kTensorBoxWidth, map, panel * kTensorBoxWidth, 0, row + r, arrival);
    }
  }
  __device__ void copy_own(int row) const {
    if (threadIdx.x == 0) {
      mbarrier_arrive_expecting(own_full(), static_cast<unsigned>(panels_ * kChunkBytes));
      for (int panel = 0; panel < panels_; ++panel) {
        copy_chunk(own_ + panel * kChunkSize, source_.a, panel, row, own_full());
      }
    }
    __syncwarp();
  }
  /// A step's chunk of b.
  __device__ void copy(const TileRange& range, int across, int step, int slot) const {
    if (threadIdx.x == 0) {
      mbarrier_arrive_expecting(full(slot), static_cast<unsigned>(kChunkBytes));
      copy_chunk(ring_ + slot * kChunkSize, source_.b, step % panels_,
                 range.column + step / panels_ % across * kTile, full(slot));
    }
    __syncwarp();
  }
  /// The warp has used a step's slot; when all have, the next chunk is copied there.
  __device__ void release(const TileRange& range, int across, int step, int slot, int parity,
                          int steps) const {
    if (lane_of_warp() == 0) mbarrier_arrive(empty(slot));
    if (step + source_.slots >= steps) return;
    if (threadIdx.x == 0) mbarrier_wait(empty(slot), static_cast<unsigned>(parity));
    copy(range, across, step + source_.slots, slot);
  }

  /// products += the warpgroup's rows of a panel times those of b in a slot.
  __device__ void multiply(int panel, int slot, float (&products)[kColumnTiles][4]) const {
    const auto a = own_ + (panel * kChunkSize + warp() / 4 * 64 * kTensorBoxWidth);
    const auto b = ring_ + slot * kChunkSize;
    for (int k = 0; k < kTensorBoxWidth; k += 16) {
      warpgroup_multiply(products, matrix_descriptor(a + k, 16, kEightRows),
                         matrix_descriptor(b + k, 16, kEightRows), true);
    }
  }

  const Source& source_;
  const int panels_;
  const SharedPointer<BFloat16> own_, ring_;
  const SharedPointer<Mbarrier> barriers_;
};

}  // namespace cmir::kernels::CMIR_DEVICE
