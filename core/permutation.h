// Random permutations without memory and without sorting: element i's image is computed from i
// alone, so that any device and any thread finds the same one.
#pragma once

#include <cstdint>

#include "core/philox.h"

namespace cmir {

/// A pseudo-random permutation of 0 .. count - 1, count <= 2^30, which depends only on the stream's
/// seed, step and site. A Feistel network of twelve rounds (Luby and Rackoff 1988) permutes the
/// next larger 4^h; an image past the end is permuted again until it lies within (cycle walking,
/// Black and Rogaway 2002), on average less than four times. The round keys come from the words of
/// the stream's elements 0 and 1.
class RandomPermutation {
 public:
  constexpr RandomPermutation(const RandomStream& stream, std::uint32_t count)
      : count_(count), half_bits_(1) {
    const auto words = stream.words(0);
    key_ = words[0];
    increment_ = words[1];
    while ((std::uint64_t{1} << (2 * half_bits_)) < count) ++half_bits_;
  }
  constexpr std::uint32_t operator()(std::uint32_t i) const {
    do {
      i = permute(i);
    } while (i >= count_);
    return i;
  }

 private:
  static constexpr int kRounds = 12;

  constexpr std::uint32_t permute(std::uint32_t i) const {
    const std::uint32_t mask = (1U << half_bits_) - 1;
    std::uint32_t left = i >> half_bits_, right = i & mask, key = key_;
    for (int round = 0; round < kRounds; ++round) {
      const std::uint32_t next = left ^ (scrambled(right ^ key) & mask);
      left = right;
      right = next;
      key = key * 1664525U + increment_;
    }
    return left << half_bits_ | right;
  }
  /// The finaliser of MurmurHash3: every bit of the result depends on every bit of x.
  static constexpr std::uint32_t scrambled(std::uint32_t x) {
    x ^= x >> 16;
    x *= 0x85EBCA6BU;
    x ^= x >> 13;
    x *= 0xC2B2AE35U;
    return x ^ (x >> 16);
  }

  std::uint32_t count_, key_ = 0, increment_ = 0;
  int half_bits_;
};

}  // namespace cmir
