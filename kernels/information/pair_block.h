// A block of dS (kernels/information/pairs.h) on CUDA, and its products on Hopper.
#pragma once

#include "kernels/cuda/device.h"
#include "kernels/information/pairs.h"

namespace cmir::kernels::CMIR_DEVICE {

/// scale dS of rows row .. row + rows and columns column .. column + columns, its rows `stride`
/// elements apart, and zeros from its columns up to the stride.
template <class T>
struct PairBlock {
  T* values;
  std::int64_t row, rows, column, columns, stride;
};

/// What the block adds to its rows of g.da and g.db, or where it is the first to: sets. In one
/// launch for both: da has few tiles with long sums, db many with short ones, and together they
/// fill the GPU. `wide`: by tiles of 256 features, which read less than those of 128 but are fewer.
/// For factors that WarpgroupTiles takes.
void multiply_on_warpgroups(const PairGradient<BFloat16>& g, const PairBlock<BFloat16>& block,
                            bool wide);

}  // namespace cmir::kernels::CMIR_DEVICE
