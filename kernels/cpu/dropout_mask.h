// DropoutMask in loops that the compiler vectorises.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/philox.h"
#include "kernels/dropout/dropout.h"

namespace cmir::kernels::cpu {

/// Philox blocks at a time, so that the rounds vectorise.
inline constexpr int kMaskBlocks = 16;
/// Elements of a tile: tile t holds elements [t kMaskTile, (t + 1) kMaskTile).
inline constexpr std::int64_t kMaskTile = 4 * kMaskBlocks;

/// The words of the elements of the tile that begins at element `tile`.
[[gnu::always_inline]] inline void draw_mask(const DropoutMask& mask, std::int64_t tile,
                                             std::uint32_t (&words)[kMaskTile]) {
  philox_words<kMaskBlocks>(mask.stream, static_cast<std::uint64_t>(tile) / 4, words);
}

/// `threshold` is the mask's: signed, since such comparisons vectorise.
[[gnu::always_inline]] inline bool is_kept(std::uint32_t word, std::int32_t threshold) {
  return static_cast<std::int32_t>(word >> 8) >= threshold;
}

/// y[i] = x[i] scaled or 0, for i in [begin, end); y may be x. Whole tiles are drawn, so that long
/// ranges, and such as begin and end with one, are cheapest.
template <class T>
[[gnu::always_inline]] inline void drop_out(const DropoutMask& mask, const T* x, T* y,
                                            std::int64_t begin, std::int64_t end) {
  const T scale = static_cast<T>(mask.scale());
  const auto threshold = static_cast<std::int32_t>(mask.threshold());
  for (std::int64_t tile = begin / kMaskTile * kMaskTile; tile < end; tile += kMaskTile) {
    std::uint32_t words[kMaskTile];
    draw_mask(mask, tile, words);
    const std::int64_t first = std::max(begin - tile, std::int64_t{0});
    const std::int64_t last = std::min(end - tile, kMaskTile);
#pragma omp simd
    for (std::int64_t j = first; j < last; ++j) {
      const T kept = x[tile + j] * scale;
      y[tile + j] = is_kept(words[j], threshold) ? kept : T{0};
    }
  }
}

}  // namespace cmir::kernels::cpu
