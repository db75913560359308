// The twins of kernels/cuda/warpgroup.h, which holds the contracts and the layouts.
#pragma once

#include <algorithm>

#include "kernels/simt/mbarrier.h"
#include "kernels/simt/ptx.h"
#include "kernels/simt/warpgroup_product.h"

namespace cmir::kernels::simt {

inline constexpr bool kHasWarpgroups = true;

using Mbarrier = std::uint64_t;

namespace detail {
template <class T>
SharedPlace place_at(const SharedPointer<T>& pointer, Location where) {
  return {pointer.place().region, pointer.place().offset, where};
}
}  // namespace detail

template <class T>
unsigned shared_address(const SharedPointer<T>& pointer) {
  return static_cast<unsigned>(pointer.place().region->begin) +
         static_cast<unsigned>(pointer.place().offset);
}

inline void mbarrier_init(const SharedPointer<Mbarrier>& barrier, unsigned count,
                          Location where = Location::current()) {
  init_mbarrier(detail::place_at(barrier, where), count);
}
inline void fence_mbarrier_init() {}
inline void fence_async_proxy() {}
inline void mbarrier_arrive(const SharedPointer<Mbarrier>& barrier,
                            Location where = Location::current()) {
  arrive_at_mbarrier(detail::place_at(barrier, where), 0);
}
inline void mbarrier_arrive_expecting(const SharedPointer<Mbarrier>& barrier, unsigned bytes,
                                      Location where = Location::current()) {
  arrive_at_mbarrier(detail::place_at(barrier, where), bytes);
}
inline void mbarrier_wait(const SharedPointer<Mbarrier>& barrier, unsigned parity,
                          Location where = Location::current()) {
  wait_at_mbarrier(detail::place_at(barrier, where), parity);
}

inline void copy_tensor_box(const SharedPointer<BFloat16>& target, const TensorMap& map,
                            int feature, int head, int row, const SharedPointer<Mbarrier>& barrier,
                            Location where = Location::current()) {
  copy_tensor_box(detail::place_at(target, where), map, feature, head, row,
                  detail::place_at(barrier, where));
}

template <int Count>
void release_registers() {}
template <int Count>
void take_registers() {}

inline MatrixDescriptor matrix_descriptor(const SharedPointer<const BFloat16>& start, int leading,
                                          int stride, Location where = Location::current()) {
  return {detail::place_at(start, where), leading, stride};
}

template <class... Sums>
void wgmma_fence(const Sums&...) {}
inline void wgmma_commit() { commit_warpgroup_products(); }
template <int Keep, class... Sums>
void wgmma_wait(const Sums&...) {
  wait_for_warpgroup_products(Keep, {});
}

template <bool kMnMajorA = false, bool kMnMajorB = false, int kTiles>
void warpgroup_multiply(float (&d)[kTiles][4], const MatrixDescriptor& a, const MatrixDescriptor& b,
                        bool keep) {
  issue_warpgroup_product({&d[0][0], kTiles, keep, false, {}, a, b, kMnMajorA, kMnMajorB});
}
template <int kTiles>
void warpgroup_multiply(float (&d)[kTiles][4], const unsigned (&a)[4], const MatrixDescriptor& b) {
  issue_warpgroup_product({&d[0][0], kTiles, true, true, std::to_array(a), b, b, false, true});
}

}  // namespace cmir::kernels::simt
