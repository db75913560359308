// Philox words and standard normals for many elements at once, in loops that the compiler
// vectorises. The words are those of core/philox.h bit for bit; with r the larger of 1 and the
// Box-Muller radius, the normals are within 4e-7 r of exact arithmetic and 1e-6 r of
// RandomStream::normal (tests/losses/environments_test.cpp).
#pragma once

#include <cmath>
#include <cstdint>

#include "core/philox.h"
#include "kernels/cpu/vector_math.h"

namespace cmir::kernels::cpu {

/// lanes[lane][b] = word `lane` of block first + b, which serves element 4 (first + b) + lane.
/// `first` is a multiple of kBlocks, a power of two.
template <int kBlocks>
[[gnu::always_inline]] inline void philox_lanes(const RandomStream& stream, std::uint64_t first,
                                                std::uint32_t (&lanes)[4][kBlocks]) {
  const auto low = static_cast<std::uint32_t>(first);  // low + b cannot carry
  const auto high = static_cast<std::uint32_t>(first >> 32);
  const auto seed0 = static_cast<std::uint32_t>(stream.seed);
  const auto seed1 = static_cast<std::uint32_t>(stream.seed >> 32);
  const std::uint32_t site = stream.site, step = stream.current_step();
#pragma omp simd
  for (int b = 0; b < kBlocks; ++b) {
    std::uint32_t c0 = low + static_cast<std::uint32_t>(b), c1 = high, c2 = site, c3 = step;
    std::uint32_t key0 = seed0, key1 = seed1;
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53U} * c0;
      const std::uint64_t p1 = std::uint64_t{0xCD9E8D57U} * c2;
      c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ key0;
      c1 = static_cast<std::uint32_t>(p1);
      c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ key1;
      c3 = static_cast<std::uint32_t>(p0);
      key0 += 0x9E3779B9U;
      key1 += 0xBB67AE85U;
    }
    lanes[0][b] = c0;
    lanes[1][b] = c1;
    lanes[2][b] = c2;
    lanes[3][b] = c3;
  }
}

/// words[i] = word of element 4 first + i, for i < 4 kBlocks; `first` as above.
template <int kBlocks>
[[gnu::always_inline]] inline void philox_words(const RandomStream& stream, std::uint64_t first,
                                                std::uint32_t* words) {
  alignas(64) std::uint32_t lanes[4][kBlocks];
  philox_lanes(stream, first, lanes);
#pragma omp simd
  for (int b = 0; b < kBlocks; ++b) {
    for (int lane = 0; lane < 4; ++lane) words[4 * b + lane] = lanes[lane][b];
  }
}

/// Uniform in [0, 1) from a word: RandomStream::uniform_of, through a signed conversion, which
/// vectorises.
[[gnu::always_inline]] inline float uniform_of(std::uint32_t word) {
  return static_cast<float>(static_cast<std::int32_t>(word >> 8)) * 0x1p-24F;
}

/// -ln(u) for u = (24 bits + 1) / 2^24 in (0, 1]: a standard exponential.
[[gnu::always_inline]] inline float exponential_of(std::uint32_t word) {
  return -cpu::log(static_cast<float>(static_cast<std::int32_t>(word >> 8) + 1) * 0x1p-24F);
}

/// Blocks of four words per tile of normals: enough to amortise, small enough to stay in the
/// first-level cache.
inline constexpr int kPhiloxBlocks = 64;
/// Elements per tile: tile t holds elements [t kPhiloxTile, (t + 1) kPhiloxTile).
inline constexpr int kPhiloxTile = 4 * kPhiloxBlocks;

/// normals[i] = standard normal of element 256 tile + i.
[[gnu::always_inline]] inline void philox_normals(const RandomStream& stream, std::uint64_t tile,
                                                  float (&normals)[kPhiloxTile]) {
  alignas(64) std::uint32_t lanes[4][kPhiloxBlocks];
  philox_lanes(stream, tile * kPhiloxBlocks, lanes);
  for (int pair = 0; pair < 2; ++pair) {
    const std::uint32_t* first = lanes[2 * pair];
    const std::uint32_t* second = lanes[2 * pair + 1];
#pragma omp simd
    for (int b = 0; b < kPhiloxBlocks; ++b) {
      const float radius = std::sqrt(2.0F * exponential_of(first[b]));
      float cosine, sine;
      cos_sin_turn(uniform_of(second[b]), cosine, sine);
      normals[4 * b + 2 * pair] = radius * cosine;
      normals[4 * b + 2 * pair + 1] = radius * sine;
    }
  }
}

}  // namespace cmir::kernels::cpu
