// Packed sequences, as ops take them: x [rows, width] and offsets i64 [samples + 1], sample s
// owning the rows offsets[s] up to offsets[s + 1]. A sample may be empty.
#pragma once

#include <string_view>

#include "core/tensor.h"

namespace cmir {

struct Sequences {
  Tensor on_device;             ///< the offsets where the kernels read them
  const std::int64_t* offsets;  ///< its address, [samples + 1]
  std::int64_t samples;
  std::int64_t longest;  ///< rows of the longest sample
};

/// The sequences that `offsets`, which are on the CPU, describe over the rows of x [rows, ...].
/// Throws, naming `op`, unless they are i64 [samples + 1], start at 0, never fall and end at
/// `rows`.
Sequences check_sequences(std::string_view op, const Tensor& offsets, const Tensor& x);

}  // namespace cmir
