// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011). A number depends only on (seed, step, site, element): the
// same on any device, for any thread count, after any resume.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "core/host_device.h"

namespace cmir {

/// Four 32-bit words from a 128-bit counter and a 64-bit key, ten rounds.
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c,
                                                  std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ key0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ key1, static_cast<std::uint32_t>(p0)};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return c;
}

/// A stream of random numbers indexed by element. `site` tells apart the places that draw in one
/// step (each dropout, each modality's noise); `step` is the optimizer step, or any counter that
/// the caller advances.
struct RandomStream {
  std::uint64_t seed = 0;
  std::uint32_t step = 0;
  std::uint32_t site = 0;
  /// Where it is not null, the step is what this memory of the kernel's device holds when the
  /// kernel runs, so that recorded work draws anew at every replay.
  const std::int64_t* counter = nullptr;

  constexpr std::uint32_t current_step() const {
    return counter == nullptr ? step : static_cast<std::uint32_t>(*counter);
  }
  /// The four words that serve elements 4 block .. 4 block + 3. Counter = (block low, block high,
  /// site, step), key = seed.
  constexpr std::array<std::uint32_t, 4> words(std::uint64_t block) const {
    return philox4x32({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                       site, current_step()},
                      static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  }
  constexpr std::uint32_t word(std::uint64_t element) const {
    return words(element / 4)[element % 4];
  }

  /// Uniform in [0, 1): 24 bits, so exact in f32.
  static constexpr float uniform_of(std::uint32_t word) {
    return static_cast<float>(word >> 8) * 0x1p-24F;
  }
  constexpr float uniform(std::uint64_t element) const { return uniform_of(word(element)); }

  /// Two standard normals by Box-Muller from two words; the first uniform is in (0, 1], so the
  /// logarithm is finite.
  CMIR_HOST_DEVICE static std::array<float, 2> normal_pair(std::uint32_t a, std::uint32_t b) {
    const float radius =
        std::sqrt(-2.0F * std::log((static_cast<float>(a >> 8) + 1.0F) * 0x1p-24F));
    const float angle = 2.0F * std::numbers::pi_v<float> * uniform_of(b);
    return {radius * std::cos(angle), radius * std::sin(angle)};
  }
  /// Standard normal number `element`: words 0, 1 of a block serve its elements 0, 1; words 2, 3
  /// the others.
  CMIR_HOST_DEVICE float normal(std::uint64_t element) const {
    const auto w = words(element / 4);
    const auto lane = element % 4;
    return lane < 2 ? normal_pair(w[0], w[1])[lane] : normal_pair(w[2], w[3])[lane - 2];
  }
};

}  // namespace cmir
