// Packed sequences for kernel tests: offsets, and one sample cut out of a batch.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "tests/kernels/kernel_test.h"

namespace cmir::kernels::testing {

/// offsets [lengths + 1]: the running sum of the lengths.
inline Shared<std::int64_t> offsets_of(const std::vector<std::int64_t>& lengths) {
  Shared<std::int64_t> offsets(lengths.size() + 1, 0);
  std::partial_sum(lengths.begin(), lengths.end(), offsets.begin() + 1);
  return offsets;
}

/// The rows [begin, end) of a matrix of the given width.
template <class T>
std::vector<T> rows_of(const std::vector<T>& matrix, std::int64_t begin, std::int64_t end,
                       std::int64_t width) {
  return {matrix.begin() + begin * width, matrix.begin() + end * width};
}

/// Lengths with empty samples at both ends and inside, single rows, and lengths about a register
/// tile's 6 rows and a block's 48.
inline const std::vector<std::int64_t> kRaggedLengths = {0, 1, 5, 0, 12, 2, 50, 7, 1, 3, 48, 0};

}  // namespace cmir::kernels::testing
