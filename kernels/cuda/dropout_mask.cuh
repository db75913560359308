// DropoutMask on a device.
#pragma once

#include "kernels/cuda/random.cuh"
#include "kernels/dropout/dropout.h"

namespace cmir::kernels::CMIR_DEVICE {

struct DeviceMask {
  RandomStream stream;
  std::uint32_t threshold;
  float scale;

  explicit DeviceMask(const DropoutMask& mask)
      : stream(mask.stream), threshold(mask.threshold()), scale(static_cast<float>(mask.scale())) {}

  /// Of elements i .. i + N - 1: N is 4 and i a multiple of it, or N is 1, which costs as much.
  template <int N>
  __device__ Vector<bool, N> kept(std::int64_t i) const {
    static_assert(N == 1 || N == 4);
    Vector<std::uint32_t, N> words;
    if constexpr (N == 4) {
      words = random_words(stream, static_cast<std::uint64_t>(i) / 4);
    } else {
      words[0] = random_word(stream, static_cast<std::uint64_t>(i));
    }
    Vector<bool, N> kept;
    for (int k = 0; k < N; ++k) kept[k] = words[k] >> 8 >= threshold;
    return kept;
  }
};

}  // namespace cmir::kernels::CMIR_DEVICE
