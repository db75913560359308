// CUDA's atomic functions. Threads change only where they wait, so plain operations are atomic;
// on shared memory they are checked against plain accesses that race with them.
#pragma once

#include <algorithm>
#include <type_traits>

#include "kernels/simt/shared.h"

namespace cmir::kernels::simt {
namespace detail {

template <class T, class F>
T update(T* target, F&& f) {
  const T before = *target;
  *target = static_cast<T>(f(before));
  return before;
}
template <class T, class F>
T update(const SharedPointer<T>& target, F&& f) {
  return update(
      reinterpret_cast<T*>(use_shared(target.place(), sizeof(T), SharedUse::atomic, sizeof(T))), f);
}

template <class Pointer>
struct Target;
template <class T>
struct Target<T*> {
  using type = T;
};
template <class T>
struct Target<SharedPointer<T>> {
  using type = T;
};
/// The operand's type, so that atomicAdd(&count, 1) converts the 1.
template <class Pointer>
using TargetOf = typename Target<Pointer>::type;

}  // namespace detail

template <class Pointer>
detail::TargetOf<Pointer> atomicAdd(Pointer target, detail::TargetOf<Pointer> value) {
  return detail::update(target, [value](auto before) {
    using T = decltype(before);
    if constexpr (std::is_integral_v<T>) {  // wraps around
      using Unsigned = std::make_unsigned_t<T>;
      return static_cast<T>(static_cast<Unsigned>(before) + static_cast<Unsigned>(value));
    } else {
      return before + value;
    }
  });
}
template <class Pointer>
detail::TargetOf<Pointer> atomicMax(Pointer target, detail::TargetOf<Pointer> value) {
  return detail::update(target, [value](auto before) { return std::max(before, value); });
}
template <class Pointer>
detail::TargetOf<Pointer> atomicMin(Pointer target, detail::TargetOf<Pointer> value) {
  return detail::update(target, [value](auto before) { return std::min(before, value); });
}
template <class Pointer>
detail::TargetOf<Pointer> atomicExch(Pointer target, detail::TargetOf<Pointer> value) {
  return detail::update(target, [value](auto) { return value; });
}
template <class Pointer>
detail::TargetOf<Pointer> atomicOr(Pointer target, detail::TargetOf<Pointer> value) {
  return detail::update(target, [value](auto before) { return before | value; });
}
template <class Pointer>
detail::TargetOf<Pointer> atomicAnd(Pointer target, detail::TargetOf<Pointer> value) {
  return detail::update(target, [value](auto before) { return before & value; });
}
template <class Pointer>
detail::TargetOf<Pointer> atomicCAS(Pointer target, detail::TargetOf<Pointer> expected,
                                    detail::TargetOf<Pointer> value) {
  return detail::update(target, [=](auto before) { return before == expected ? value : before; });
}

/// Memory is sequentially consistent here.
inline void __threadfence() {}
inline void __threadfence_block() {}

}  // namespace cmir::kernels::simt
