// Several outputs of kernels as one, for comparisons of bits.
#pragma once

#include "tests/kernels/kernel_test.h"

namespace cmir::kernels::testing {

/// The elements of the arrays, one array after the other.
template <class T, class... Rest>
std::vector<T> joined(Guarded<T>& first, Rest&... rest) {
  std::vector<T> all = first.bits();
  const auto append = [&all](Guarded<T>& part) {
    const auto bits = part.bits();
    all.insert(all.end(), bits.begin(), bits.end());
  };
  (append(rest), ...);
  return all;
}

}  // namespace cmir::kernels::testing
