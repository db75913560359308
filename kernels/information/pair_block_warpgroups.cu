#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/warpgroup_ring.cuh"
#include "kernels/information/pair_block.h"
#include "kernels/information/pair_tile.cuh"

// A CUDA block has 128 rows and kColumns features of da or of db. The layout of panels:
// kernels/cuda/warpgroup.h.
namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr int kPanel = kTensorBoxRows * kTensorBoxWidth;  // elements

using Product = PairProduct<TensorMap>;
using Products = PairProducts<TensorMap, TensorMap>;

/// A step's slot: W's boxes of 64 of the depth, and those of the right factor.
template <int kColumns>
struct ProductSlots {
  static constexpr int kRightPanels = kColumns / kTensorBoxWidth, kPanels = 2 + kRightPanels;
  using Ring = CopyRing<4>;
  SharedPointer<BFloat16> slots;
  Ring ring;

  static constexpr std::size_t shared_bytes() {
    return sizeof(BFloat16) * Ring::kSlots * kPanels * kPanel + 1024;
  }
  __device__ ProductSlots(const SharedPointer<BFloat16>& memory,
                          const SharedPointer<Mbarrier>& barriers)
      : slots(aligned_panels(memory)), ring{barriers} {
    if (threadIdx.x == 0) {
      ring.init((kSharingThreads - 128) / 32);
      fence_mbarrier_init();
    }
    __syncthreads();
  }
  __device__ SharedPointer<BFloat16> panel(int step, int index) const {
    return slots + (step % Ring::kSlots * kPanels + index) * kPanel;
  }

  /// By one thread.
  __device__ void copy(const Products& p, const Product& product, const PairTask& task,
                       int step) const {
    const int k = step * kTensorBoxRows;
    ring.wait_empty(step);
    mbarrier_arrive_expecting(ring.full(step), sizeof(BFloat16) * kPanels * kPanel);
    for (int i = 0; i < 2; ++i) {
      const int row = task.row + i * kTensorBoxRows;
      copy_tensor_box(panel(step, i), p.weights, task.of_b ? row : k, 0, task.of_b ? k : row,
                      ring.full(step));
    }
    for (int i = 0; i < kRightPanels; ++i) {
      copy_tensor_box(panel(step, 2 + i), product.right, task.column + i * kTensorBoxWidth, 0,
                      product.first + k, ring.full(step));
    }
  }

  /// sums (+)= the warpgroup's 64 rows of a step's product: columns 128 half .. 128 half + 127.
  template <bool kTransposed>
  __device__ void multiply(int step, int half, float (&sums)[16][4]) const {
    constexpr int eight_rows = 8 * kTensorBoxWidth * static_cast<int>(sizeof(BFloat16));
    constexpr int panel_bytes = kPanel * static_cast<int>(sizeof(BFloat16));
    const auto left = panel(step, static_cast<int>(threadIdx.x) / 128 - 1);
    const auto right = panel(step, 2 + 2 * half);
    for (int k = 0; k < kTensorBoxRows; k += 16) {
      warpgroup_multiply<kTransposed, true>(
          sums, matrix_descriptor(left + (kTransposed ? k * kTensorBoxWidth : k), 16, eight_rows),
          matrix_descriptor(right + k * kTensorBoxWidth, panel_bytes, eight_rows),
          step > 0 || k > 0);
    }
  }
};

template <int kColumns>
using Sums = float[kColumns / 128][16][4];

template <int kHalves>
__device__ void wait_for(float (&sums)[kHalves][16][4]) {
  if constexpr (kHalves == 2) {
    wgmma_wait<0>(sums[0], sums[1]);
  } else {
    wgmma_wait<0>(sums[0]);
  }
}

template <bool kTransposed, int kColumns>
__device__ void multiply_steps(const ProductSlots<kColumns>& slots, int steps,
                               Sums<kColumns>& sums) {
  for (int step = 0; step < steps; ++step) {
    slots.ring.wait_full(step);
    for (int half = 0; half < kColumns / 128; ++half) {
      wgmma_fence(sums[half]);
      slots.template multiply<kTransposed>(step, half, sums[half]);
    }
    wgmma_commit();
    if (step == 0) continue;
    wgmma_wait<1>();
    slots.ring.release(step - 1);
  }
  wait_for(sums);
}

/// The warp's rows of the result.
template <int kColumns>
__device__ void store_tile(const Product& product, const PairTask& task, int d,
                           const Sums<kColumns>& sums) {
  const int row = task.row + (static_cast<int>(threadIdx.x) - 128) / 32 * 16 + lane_of_warp() / 4;
  const int column = task.column + lane_of_warp() % 4 * 2;
  for_constants<kColumns / 2>([&](auto i) {
    constexpr int n = i / 4, e = i % 4;
    product.store(row + e / 2 * 8, column + 8 * n + e % 2, d, sums[n / 16][n % 16][e]);
  });
}

template <int kColumns>
__device__ void multiply_tile(const Products& p) {
  using Slots = ProductSlots<kColumns>;
  CMIR_DYNAMIC_SHARED(BFloat16, memory);
  CMIR_SHARED(Mbarrier, barriers, [Slots::Ring::kBarriers]);
  // The warps that copy have few registers, so each side finds out by itself what to do.
  share_work(
      [&] {
        const Slots slots(memory, barriers + 0);
        if (threadIdx.x > 0) return;
        const PairTask task(p, kTile, kColumns);
        const Product& product = task.of_b ? p.of_b : p.of_a;
        for (int step = 0; step * kTensorBoxRows < product.depth; ++step) {
          slots.copy(p, product, task, step);
        }
      },
      [&] {
        const Slots slots(memory, barriers + 0);
        const PairTask task(p, kTile, kColumns);
        const Product& product = task.of_b ? p.of_b : p.of_a;
        const int steps = (product.depth + kTensorBoxRows - 1) / kTensorBoxRows;
        Sums<kColumns> sums;
        if (task.of_b) {
          multiply_steps<true, kColumns>(slots, steps, sums);
        } else {
          multiply_steps<false, kColumns>(slots, steps, sums);
        }
        store_tile<kColumns>(product, task, p.d, sums);
      });
}

template <int kColumns>
__global__ void __launch_bounds__(kSharingThreads, 1)
    pair_block_warpgroup_kernel(const __grid_constant__ Products p) {
  if constexpr (kHasWarpgroups) multiply_tile<kColumns>(p);
}

template <int kColumns>
void launch_products(Products p) {
  const unsigned tiles = p.number_tiles(kTile, kColumns);
  launch(pair_block_warpgroup_kernel<kColumns>,
         {.grid = dim3(tiles),
          .block = dim3(kSharingThreads),
          .shared_bytes = ProductSlots<kColumns>::shared_bytes()},
         p);
}

}  // namespace

void multiply_on_warpgroups(const PairGradient<BFloat16>& g, const PairBlock<BFloat16>& block,
                            bool wide) {
  const std::int64_t n = g.scores.n, d = g.scores.d;
  const Products products = pair_products(
      g, block, make_tensor_map(block.values, block.stride, 1, block.rows, block.stride),
      [&](const BFloat16* right) { return make_tensor_map(right, d, 1, n, d); });
  wide ? launch_products<256>(products) : launch_products<128>(products);
}

}  // namespace cmir::kernels::CMIR_DEVICE
