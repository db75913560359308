// Which rows of a matrix belong to which environment.
#pragma once

#include <cstdint>

#include "core/host_device.h"

namespace cmir::kernels {

/// Which rows belong to which environment.
struct EnvironmentRows {
  const std::int64_t* offsets;  ///< [environments + 1], from 0 to rows, never falling
  const std::int32_t* order;    ///< [rows]: row order[k] belongs to the environment of position k;
                                ///< null: row k does
  std::int64_t environments;    ///< >= 1
  std::int64_t rows;

  CMIR_HOST_DEVICE std::int64_t row(std::int64_t position) const {
    return order != nullptr ? order[position] : position;
  }
  /// Samples of an environment.
  CMIR_HOST_DEVICE std::int64_t size(std::int64_t environment) const {
    return offsets[environment + 1] - offsets[environment];
  }
  /// How many environments have at least that many samples.
  CMIR_HOST_DEVICE std::int64_t count_with(std::int64_t at_least) const {
    std::int64_t count = 0;
    for (std::int64_t e = 0; e < environments; ++e) count += size(e) >= at_least ? 1 : 0;
    return count;
  }
  /// The environment of a position below `rows`: the last that starts at or before it.
  CMIR_HOST_DEVICE std::int64_t environment_of(std::int64_t position) const {
    std::int64_t first = 0, last = environments - 1;
    while (first < last) {
      const std::int64_t middle = (first + last + 1) / 2;
      if (offsets[middle] <= position) {
        first = middle;
      } else {
        last = middle - 1;
      }
    }
    return first;
  }
};

}  // namespace cmir::kernels
