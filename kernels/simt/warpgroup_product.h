// Products of a warpgroup (PTX ISA, "wgmma.mma_async") on the host: done when a thread waits for
// them, so that what they read too early, or is written too early, is seen. Each warp has rows of
// its own of the result and does them alone; that its group's other warps come too is not checked.
#pragma once

#include <array>
#include <span>

#include "kernels/simt/shared.h"

namespace cmir::kernels::simt {

/// A matrix of bf16 in shared memory with 128-byte swizzling, as kernels/cuda/warpgroup.h says.
struct MatrixDescriptor {
  SharedPlace start;
  int leading, stride;  ///< bytes
};

struct WarpgroupProduct {
  float* sums;        ///< [tiles, 4] of the thread
  unsigned tiles;     ///< of 8 columns
  bool keep;          ///< false: the sums count as 0
  bool in_registers;  ///< the left factor: else it is `left`
  std::array<unsigned, 4> registers;
  MatrixDescriptor left, right;
  bool left_mn_major, right_mn_major;  ///< rows (columns), not the depth, lie one behind another
};

void issue_warpgroup_product(const WarpgroupProduct& product);
/// Closes the running thread's group.
void commit_warpgroup_products();
/// Finishes the warp's closed groups, all but the newest `keep`.
void wait_for_warpgroup_products(std::size_t keep, Location where);

/// Called at the start of each block.
void begin_warpgroup_products(std::size_t threads);
/// Called when a thread returns: faults if it has not waited for all its products.
void end_warpgroup_products();

}  // namespace cmir::kernels::simt
