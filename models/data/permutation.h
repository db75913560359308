// A random order that depends on a stream only.
#pragma once

#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "core/philox.h"

namespace cmir {

/// Places that draw in models/data, as RandomStream sites: far above those of layers, which count
/// from 0.
enum class DataSite : std::uint32_t {
  shuffle = 0xDA7A0000,
  batch_order,
  validation_cut,
  synthetic = 0xDA7B0000
};

/// 0 .. n-1 in an order fixed by `stream` (Fisher-Yates). The bound by multiplication is biased by
/// less than n / 2^32.
inline std::vector<std::int64_t> permutation(std::int64_t n, const RandomStream& stream) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  for (auto i = static_cast<std::uint64_t>(n); i > 1; --i) {
    const std::uint64_t j = (std::uint64_t{stream.word(i)} * i) >> 32;
    std::swap(order[i - 1], order[j]);
  }
  return order;
}

}  // namespace cmir
