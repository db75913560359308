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
};

}  // namespace cmir::kernels
