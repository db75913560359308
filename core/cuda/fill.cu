#include "core/cuda/fill.h"

#include <algorithm>
#include <cstring>

namespace cmir::cuda {
namespace {

constexpr std::int64_t kThreads = 256, kMostBlocks = 65536;

template <class Word>
__global__ void fill_words(Word* data, Word value, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride)
    data[i] = value;
}

template <class Word>
cudaError_t launch(void* device, const void* element, std::int64_t count, cudaStream_t stream) {
  Word value;
  std::memcpy(&value, element, sizeof(Word));
  const std::int64_t blocks = std::min((count + kThreads - 1) / kThreads, kMostBlocks);
  fill_words<<<static_cast<unsigned>(blocks), static_cast<unsigned>(kThreads), 0, stream>>>(
      static_cast<Word*>(device), value, count);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_fill(void* device, const void* element, std::size_t element_bytes,
                        std::int64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  switch (element_bytes) {
    case 1:
      return launch<std::uint8_t>(device, element, count, stream);
    case 2:
      return launch<std::uint16_t>(device, element, count, stream);
    case 4:
      return launch<std::uint32_t>(device, element, count, stream);
    case 8:
      return launch<std::uint64_t>(device, element, count, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace cmir::cuda
