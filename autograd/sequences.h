// Packed sequences, as ops take them: x [rows, width] and offsets i64 [samples + 1], sample s
// owning the rows offsets[s] up to offsets[s + 1]. A sample may be empty.
#pragma once

#include <string_view>

#include "core/tensor.h"

namespace cmir {

struct Sequences {
  const std::int64_t* offsets;  // [samples + 1]
  std::int64_t samples;
  std::int64_t longest;  ///< rows of the longest sample
};

/// The sequences that `offsets` describes over `rows` rows. Throws, naming `op`, unless it is i64
/// [samples + 1], starts at 0, never falls and ends at `rows`.
Sequences check_sequences(std::string_view op, const Tensor& offsets, std::int64_t rows);

}  // namespace cmir
