// Corruption of unimodal representations for the noise protocols.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/philox.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

enum class CorruptionKind {
  gaussian,  ///< y = (1 - rate) x + rate n, n standard normal (CmIR eq. 14)
  laplace,  ///< the same with n Laplace: scale * (+ or -) a standard exponential; its variance is 2
            ///< scale^2
  erase,    ///< y = 0 with probability rate, else x, for each feature by itself
  laplace_or_erase,  ///< each sample takes one of the last two with probability 1/2 (CmIR
                     ///< section 5.4, OOD noise)
};

/// Noise and erasing of element i width + j come from number i width + j of the stream; the choice
/// of laplace_or_erase for sample i from number 2^62 + i, so that it depends on neither width nor
/// batch size. With `linear_part_only` the noise is left out: that is the derivative, so the
/// backward pass is this kernel applied to the gradient. Bytes: 2 rows width sizeof(T). Operations:
/// about 100 per element (gaussian), 60 (others). Deterministic: elementwise.
template <class T>
struct Corrupt {
  static constexpr std::string_view name = "corrupt";
  const T* x;  // [rows, width]
  T* y;        // [rows, width]
  std::int64_t rows;
  std::int64_t width;
  CorruptionKind kind;
  double rate;
  double laplace_scale;
  bool linear_part_only;
  RandomStream stream;

  double bytes() const { return 2.0 * rows * width * sizeof(T); }
  double operations() const {
    return (kind == CorruptionKind::gaussian ? 100.0 : 60.0) * rows * width;
  }
};

/// The stream's element that chooses the kind of sample 0 of a laplace_or_erase batch, and the kind
/// that its word means.
inline constexpr std::uint64_t kCorruptionChoices = std::uint64_t{1} << 62;
constexpr CorruptionKind corruption_of_word(std::uint32_t word) {
  return word >> 31 != 0 ? CorruptionKind::laplace : CorruptionKind::erase;
}
/// The kind that sample `row` takes.
inline CorruptionKind corruption_of_sample(const RandomStream& stream, std::int64_t row) {
  return corruption_of_word(stream.word(kCorruptionChoices + static_cast<std::uint64_t>(row)));
}

}  // namespace cmir::kernels
