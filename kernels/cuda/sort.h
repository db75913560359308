// Sorting on a device: CUB's radix sort under nvcc, the standard library's sort on the host model.
#pragma once

#include "kernels/cuda/scratch.h"

#if defined(__CUDACC__)
#include <cub/device/device_radix_sort.cuh>
#else
#include <algorithm>
#endif

namespace cmir::kernels::CMIR_DEVICE {

/// Sorts `count` keys, none below 0, by their bits `begin_bit` .. `end_bit` - 1, keys that are
/// equal there in the order they had. `other` is room for as many. Returns where the sorted keys
/// are: in one of the two.
inline std::int64_t* sort_keys(std::int64_t* keys, std::int64_t* other, std::int64_t count,
                               int begin_bit, int end_bit) {
#if defined(__CUDACC__)
  cudaStream_t stream = ::cmir::cuda::current_stream().handle();
  cub::DoubleBuffer<std::int64_t> buffer(keys, other);
  const auto sort = [&](void* storage, std::size_t& bytes) {
    const cudaError_t status =
        cub::DeviceRadixSort::SortKeys(storage, bytes, buffer, count, begin_bit, end_bit, stream);
    require(status == cudaSuccess, "sort", "cub::DeviceRadixSort of {} keys: {}", count,
            cudaGetErrorString(status));
  };
  std::size_t bytes = 0;
  sort(nullptr, bytes);
  const Scratch<std::byte> storage(static_cast<std::int64_t>(bytes));
  sort(storage.data(), bytes);
  return buffer.Current();
#else
  (void)other;
  const std::uint64_t mask = ~std::uint64_t{0} << (64 - (end_bit - begin_bit)) >> (64 - end_bit);
  std::stable_sort(keys, keys + count,
                   [mask](std::uint64_t a, std::uint64_t b) { return (a & mask) < (b & mask); });
  return keys;
#endif
}

}  // namespace cmir::kernels::CMIR_DEVICE
