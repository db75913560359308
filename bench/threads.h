// Numbers of threads that are timed.
#pragma once

#include <vector>

namespace cmir::bench {

/// 1, 2, 4, ... up to all.
inline std::vector<int> powers_of_two(int all) {
  std::vector<int> counts;
  for (int count = 1; count < all; count *= 2) counts.push_back(count);
  counts.push_back(all);
  return counts;
}

}  // namespace cmir::bench
