// Barriers of shared memory (PTX ISA, "mbarrier") and the copies of boxes of a tensor that arrive
// at them ("cp.async.bulk.tensor"), on the host. A box's bytes come only when a thread waits at its
// barrier; until then its target counts as not written.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "kernels/simt/shared.h"

namespace cmir::kernels::simt {

/// A matrix [rows, heads, width] of which boxes of kTensorBoxRows rows of 64 features of one head
/// are copied.
struct TensorMap {
  const BFloat16* first;
  std::int64_t width, heads, rows, stride;  ///< stride: elements between rows
};
inline constexpr int kTensorBoxRows = 64, kTensorBoxWidth = 64;

void init_mbarrier(const SharedPlace& barrier, unsigned count);
/// One arrival, after which `bytes` more have to come before the phase ends.
void arrive_at_mbarrier(const SharedPlace& barrier, std::size_t bytes);
/// Returns when the phase of that parity has ended.
void wait_at_mbarrier(const SharedPlace& barrier, unsigned parity);
/// The box of `head` that begins with a feature and a row. What is outside of the matrix is 0.
void copy_tensor_box(const SharedPlace& target, const TensorMap& map, int feature, int head,
                     int row, const SharedPlace& barrier);

/// The byte of shared memory where 128-byte swizzling puts byte `address`: of eight rows of 128
/// bytes, in which row r's 16-byte pieces p are at p xor r.
constexpr std::size_t swizzled(std::size_t address) { return address ^ (address >> 7 & 7) << 4; }

/// Called at the start of each block.
void begin_mbarriers();

}  // namespace cmir::kernels::simt
