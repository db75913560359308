// How many blocks of a device share a sum over many elements.
#pragma once

#include <algorithm>
#include <cstdint>

namespace cmir::kernels {

/// A block for every `per_block` elements, but not more than fill a large GPU a few times: then
/// each walks on by the whole grid. Each leaves one partial sum. Depends on the sizes only, and so
/// do the bits.
inline std::int64_t device_sum_blocks(std::int64_t count, std::int64_t per_block) {
  return std::min<std::int64_t>((count + per_block - 1) / per_block, 1024);
}

}  // namespace cmir::kernels
