#include "kernels/cuda/tensor_map.h"
#include "kernels/cuda/tensor_tile.cuh"
#include "kernels/cuda/warpgroup_ring.cuh"
#include "kernels/information/pair_block.h"

// A CUDA block has 128 rows and kColumns features of da or of db. The layout of panels:
// kernels/cuda/warpgroup.h.
namespace cmir::kernels::CMIR_DEVICE {
namespace {

constexpr int kRows = 128, kPanel = kTensorBoxRows * kTensorBoxWidth;  // elements

/// One of the two products: result [rows, d] (+)= W right, where W [rows, depth] is the block, or
/// its transpose.
struct PairProduct {
  TensorMap right;   ///< all of b, or of a
  int first, depth;  ///< of its rows
  float* result;     ///< or null
  int rows, tiles;
  bool adds;
};
struct PairProducts {
  TensorMap weights;
  PairProduct of_a, of_b;
  int d, across;  ///< across: tiles of kColumns features
};

/// What a CUDA block does of them: those of da, which take longer, begin first.
struct PairTask {
  bool of_b;
  int row, column;

  __device__ PairTask(const PairProducts& p, int columns) {
    int tile = static_cast<int>(blockIdx.x);
    of_b = tile >= p.of_a.tiles;
    if (of_b) tile -= p.of_a.tiles;
    row = tile / p.across * kRows;
    column = tile % p.across * columns;
  }
};

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
      : slots(memory + static_cast<int>((0U - shared_address(memory)) % 1024 / sizeof(BFloat16))),
        ring{barriers} {
    if (threadIdx.x == 0) {
      ring.init(8);
      fence_mbarrier_init();
    }
    __syncthreads();
  }
  __device__ SharedPointer<BFloat16> panel(int step, int index) const {
    return slots + (step % Ring::kSlots * kPanels + index) * kPanel;
  }

  /// By one thread.
  __device__ void copy(const PairProducts& p, const PairProduct& product, const PairTask& task,
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

template <int kKeep, int kHalves>
__device__ void wait_for(float (&sums)[kHalves][16][4]) {
  if constexpr (kHalves == 2) {
    wgmma_wait<kKeep>(sums[0], sums[1]);
  } else {
    wgmma_wait<kKeep>(sums[0]);
  }
}

template <bool kTransposed, int kColumns>
__device__ void multiply_tile(const ProductSlots<kColumns>& slots, int steps,
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
  wait_for<0>(sums);
}

/// The warp's rows of the result.
template <int kColumns>
__device__ void store_tile(const PairProduct& product, const PairTask& task, int d,
                           const Sums<kColumns>& sums) {
  const int thread = static_cast<int>(threadIdx.x) - 128;
  for (int half = 0; half < 2; ++half) {
    const int row = task.row + thread / 32 * 16 + lane_of_warp() / 4 + 8 * half;
    if (row >= product.rows) continue;
    float* const to = product.result + std::int64_t{row} * d;
    for (int n = 0; n < kColumns / 8; ++n) {
      const int column = task.column + 8 * n + lane_of_warp() % 4 * 2;
      if (column >= d) continue;
      const float(&own)[4] = sums[n / 16][n % 16];
      Vector<float, 2> values{own[2 * half], own[2 * half + 1]};
      if (product.adds) {
        const auto before = load_vector<float, 2>(to + column);
        for (int i = 0; i < 2; ++i) values[i] += before[i];
      }
      store_vector(to + column, values);
    }
  }
}

template <int kColumns>
__device__ void multiply_block(const PairProducts& p) {
  using Slots = ProductSlots<kColumns>;
  CMIR_DYNAMIC_SHARED(BFloat16, memory);
  CMIR_SHARED(Mbarrier, barriers, [Slots::Ring::kBarriers]);
  // The warps that copy have few registers, so each side finds out by itself what to do.
  share_work(
      [&] {
        const Slots slots(memory, barriers + 0);
        if (threadIdx.x > 0) return;
        const PairTask task(p, kColumns);
        const PairProduct& product = task.of_b ? p.of_b : p.of_a;
        for (int step = 0; step * kTensorBoxRows < product.depth; ++step) {
          slots.copy(p, product, task, step);
        }
      },
      [&] {
        const Slots slots(memory, barriers + 0);
        const PairTask task(p, kColumns);
        const PairProduct& product = task.of_b ? p.of_b : p.of_a;
        const int steps = (product.depth + kTensorBoxRows - 1) / kTensorBoxRows;
        Sums<kColumns> sums;
        if (task.of_b) {
          multiply_tile<true, kColumns>(slots, steps, sums);
        } else {
          multiply_tile<false, kColumns>(slots, steps, sums);
        }
        store_tile<kColumns>(product, task, p.d, sums);
      });
}

template <int kColumns>
__global__ void __launch_bounds__(kSharingThreads, 1)
    pair_products_kernel(const __grid_constant__ PairProducts p) {
  if constexpr (kHasWarpgroups) multiply_block<kColumns>(p);
}

PairProduct product_of(const BFloat16* right, std::int64_t n, std::int64_t d, std::int64_t first,
                       std::int64_t depth, float* result, std::int64_t row, std::int64_t rows) {
  return {make_tensor_map(right, d, 1, n, d),
          static_cast<int>(first),
          static_cast<int>(depth),
          result == nullptr ? nullptr : result + row * d,
          static_cast<int>(rows),
          0,
          first > 0};
}

template <int kColumns>
void launch_products(PairProducts p) {
  p.across = (p.d + kColumns - 1) / kColumns;
  for (PairProduct* product : {&p.of_a, &p.of_b}) {
    const int down = (product->rows + kRows - 1) / kRows;
    product->tiles = product->result != nullptr ? down * p.across : 0;
  }
  launch(pair_products_kernel<kColumns>,
         {.grid = dim3(static_cast<unsigned>(p.of_a.tiles + p.of_b.tiles)),
          .block = dim3(kSharingThreads),
          .shared_bytes = ProductSlots<kColumns>::shared_bytes()},
         p);
}

}  // namespace

void multiply_on_warpgroups(const PairGradient<BFloat16>& g, const PairBlock<BFloat16>& block,
                            bool wide) {
  const std::int64_t n = g.scores.n, d = g.scores.d;
  const PairProducts products{
      make_tensor_map(block.values, block.stride, 1, block.rows, block.stride),
      product_of(g.scores.b, n, d, block.column, block.columns, g.da, block.row, block.rows),
      product_of(g.scores.a, n, d, block.row, block.rows, g.db, block.column, block.columns),
      static_cast<int>(d), 0};
  wide ? launch_products<256>(products) : launch_products<128>(products);
}

}  // namespace cmir::kernels::CMIR_DEVICE
