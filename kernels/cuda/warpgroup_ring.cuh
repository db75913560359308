// How warps of a block share work on Hopper: one copies to a ring of slots in shared memory, two
// warpgroups multiply what is there.
#pragma once

#include "kernels/cuda/warpgroup.h"

namespace cmir::kernels::CMIR_DEVICE {

/// The barriers of a ring. Step s uses slot s % kSlots.
template <int kSlots_>
struct CopyRing {
  static constexpr int kSlots = kSlots_, kBarriers = 2 * kSlots;
  SharedPointer<Mbarrier> barriers;  // [kBarriers]

  __device__ SharedPointer<Mbarrier> full(int step) const { return barriers + step % kSlots; }
  __device__ SharedPointer<Mbarrier> empty(int step) const {
    return barriers + (kSlots + step % kSlots);
  }
  /// By one thread. `warps`: as many release a slot.
  __device__ void init(unsigned warps) const {
    for (int slot = 0; slot < kSlots; ++slot) {
      mbarrier_init(full(slot), 1);
      mbarrier_init(empty(slot), warps);
    }
  }
  /// Until the step's slot may be filled, and until it is.
  __device__ void wait_empty(int step) const { mbarrier_wait(empty(step), step / kSlots % 2 ^ 1); }
  __device__ void wait_full(int step) const { mbarrier_wait(full(step), step / kSlots % 2); }
  /// The warp has used the slot.
  __device__ void release(int step) const {
    if (threadIdx.x % 32 == 0) mbarrier_arrive(empty(step));
  }
};

/// Calls copy() in the first of three warpgroups, multiply() in the others, with registers for it:
/// 65536 of a multiprocessor for 128 threads that copy and 256 that multiply.
inline constexpr int kSharingThreads = 384;
template <class Copy, class Multiply>
__device__ void share_work(const Copy& copy, const Multiply& multiply) {
  if (threadIdx.x < 128) {
    release_registers<24>();
    copy();
  } else {
    take_registers<240>();
    multiply();
  }
}

}  // namespace cmir::kernels::CMIR_DEVICE
