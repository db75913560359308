// CUDA's barriers and warp operations (CUDA C++ Programming Guide, "Synchronization Functions" and
// "Warp Shuffle, Vote, Match, Reduce Functions"), by their CUDA names.
//
// A lane that the mask names must come, or the launch fails. There is no __activemask(): which
// lanes are converged is up to the hardware, so a program that needs it is wrong somewhere.
#pragma once

#include <algorithm>
#include <bit>
#include <concepts>

#include "kernels/simt/grid.h"

namespace cmir::kernels::simt {

inline void __syncthreads(Location where = Location::current()) {
  block_barrier("__syncthreads", 0, where);
}
inline int __syncthreads_count(int predicate, Location where = Location::current()) {
  return block_barrier("__syncthreads_count", predicate, where).count;
}
inline int __syncthreads_and(int predicate, Location where = Location::current()) {
  return block_barrier("__syncthreads_and", predicate, where).all ? 1 : 0;
}
inline int __syncthreads_or(int predicate, Location where = Location::current()) {
  return block_barrier("__syncthreads_or", predicate, where).count > 0 ? 1 : 0;
}

/// Lane of the running thread in its warp.
inline unsigned lane_index() { return thread_rank() % 32; }

/// Every lane's value to every lane of the mask, through f(lanes, lane).
template <class Out, class In, class F>
Out exchange(const char* name, unsigned mask, const In& in, const F& f, Location where) {
  return warp_operation<Out>(
      name, mask, in,
      [&f](const Lanes<In, Out>& lanes) {
        lanes.for_each([&](unsigned lane) { *lanes.out[lane] = f(lanes, lane); });
      },
      where);
}

inline void __syncwarp(unsigned mask = 0xFFFFFFFF, Location where = Location::current()) {
  exchange<int>(
      "__syncwarp", mask, 0, [](const auto&, unsigned) { return 0; }, where);
}

namespace detail {

template <class T>
struct Shuffled {
  T value;
  unsigned source;
};

/// The value of lane `source`, which must be in the mask.
template <class T>
T shuffle(const char* name, unsigned mask, T value, unsigned source, int width, Location where) {
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width))) {
    fault(where, fmt::format("{} with width {}; needs a power of two up to 32", name, width));
  }
  if ((mask >> source & 1) == 0) {
    fault(where, fmt::format("{} with mask {:#010x} reads lane {}, which is not in the mask", name,
                             mask, source));
  }
  return exchange<T>(
      name, mask, Shuffled<T>{value, source},
      [](const auto& lanes, unsigned lane) { return lanes.in[lanes.in[lane]->source]->value; },
      where);
}

/// First lane of the running thread's group of `width` lanes.
inline unsigned group_begin(int width) {
  return lane_index() & ~(static_cast<unsigned>(width) - 1);
}

}  // namespace detail

/// From lane `source` mod width of the group.
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize,
              Location where = Location::current()) {
  const unsigned lane = static_cast<unsigned>(source) & (static_cast<unsigned>(width) - 1);
  return detail::shuffle("__shfl_sync", mask, value, detail::group_begin(width) + lane, width,
                         where);
}

/// From the lane `delta` below; the own value where that is below the group.
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 Location where = Location::current()) {
  const unsigned lane = lane_index(), in_group = lane - detail::group_begin(width);
  return detail::shuffle("__shfl_up_sync", mask, value, delta <= in_group ? lane - delta : lane,
                         width, where);
}

/// From the lane `delta` above; the own value where that is above the group.
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   Location where = Location::current()) {
  const unsigned lane = lane_index(), in_group = lane - detail::group_begin(width);
  return detail::shuffle("__shfl_down_sync", mask, value,
                         in_group + delta < static_cast<unsigned>(width) ? lane + delta : lane,
                         width, where);
}

/// From the lane whose index is the own one xor `lane_mask`; the own value where that is in a later
/// group (an earlier group may be read: CUDA's rule).
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  Location where = Location::current()) {
  const unsigned lane = lane_index(), source = lane ^ static_cast<unsigned>(lane_mask);
  const unsigned end = detail::group_begin(width) + static_cast<unsigned>(width);
  return detail::shuffle("__shfl_xor_sync", mask, value, source < end ? source : lane, width,
                         where);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, Location where = Location::current()) {
  return exchange<unsigned>(
      "__ballot_sync", mask, predicate,
      [](const auto& lanes, unsigned) {
        unsigned votes = 0;
        lanes.for_each([&](unsigned lane) { votes |= unsigned{*lanes.in[lane] != 0} << lane; });
        return votes;
      },
      where);
}
inline int __any_sync(unsigned mask, int predicate, Location where = Location::current()) {
  return __ballot_sync(mask, predicate, where) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate, Location where = Location::current()) {
  return __ballot_sync(mask, predicate, where) == mask ? 1 : 0;
}

/// The lanes that hold the same value.
template <class T>
unsigned __match_any_sync(unsigned mask, T value, Location where = Location::current()) {
  return exchange<unsigned>(
      "__match_any_sync", mask, value,
      [](const auto& lanes, unsigned lane) {
        unsigned equal = 0;
        lanes.for_each([&](unsigned other) {
          equal |= unsigned{*lanes.in[other] == *lanes.in[lane]} << other;
        });
        return equal;
      },
      where);
}

namespace detail {

template <class T, class F>
T reduce(const char* name, unsigned mask, T value, const F& f, Location where) {
  return exchange<T>(
      name, mask, value,
      [&f](const auto& lanes, unsigned) {
        T result = *lanes.in[static_cast<unsigned>(std::countr_zero(lanes.mask))];
        lanes.for_each([&](unsigned lane) {
          if ((lanes.mask & ((1u << lane) - 1)) != 0) result = f(result, *lanes.in[lane]);
        });
        return result;
      },
      where);
}

template <class T>
concept WarpReducible = std::same_as<T, int> || std::same_as<T, unsigned>;

}  // namespace detail

template <detail::WarpReducible T>
T __reduce_add_sync(unsigned mask, T value, Location where = Location::current()) {
  const auto add = [](T a, T b) {  // wraps around
    return static_cast<T>(static_cast<unsigned>(a) + static_cast<unsigned>(b));
  };
  return detail::reduce("__reduce_add_sync", mask, value, add, where);
}
template <detail::WarpReducible T>
T __reduce_min_sync(unsigned mask, T value, Location where = Location::current()) {
  return detail::reduce(
      "__reduce_min_sync", mask, value, [](T a, T b) { return std::min(a, b); }, where);
}
template <detail::WarpReducible T>
T __reduce_max_sync(unsigned mask, T value, Location where = Location::current()) {
  return detail::reduce(
      "__reduce_max_sync", mask, value, [](T a, T b) { return std::max(a, b); }, where);
}

}  // namespace cmir::kernels::simt
