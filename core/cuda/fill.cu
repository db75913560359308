// cuda::fill: the one kernel that core itself needs.
#include <cstring>

#include "core/cuda/check.h"
#include "core/cuda/runtime.h"
#include "core/error.h"

namespace cmir::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 65536;

template <class Word>
__global__ void fill_words(Word* data, Word value, std::int64_t count) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride)
    data[i] = value;
}

template <class Word>
void launch(void* device, const void* element, std::int64_t count) {
  Word value;
  std::memcpy(&value, element, sizeof(Word));
  const std::int64_t needed = (count + kThreads - 1) / kThreads;
  const auto blocks = static_cast<unsigned>(needed < kMostBlocks ? needed : kMostBlocks);
  fill_words<<<blocks, kThreads, 0, current_stream().handle()>>>(static_cast<Word*>(device), value,
                                                                 count);
  check(cudaGetLastError(), "fill");
}

}  // namespace

void fill(void* device, const void* element, std::size_t element_bytes, std::int64_t count) {
  if (count == 0) return;
  switch (element_bytes) {
    case 1:
      return launch<std::uint8_t>(device, element, count);
    case 2:
      return launch<std::uint16_t>(device, element, count);
    case 4:
      return launch<std::uint32_t>(device, element, count);
    case 8:
      return launch<std::uint64_t>(device, element, count);
    default:
      fail(ErrorKind::internal, "fill", "no element has {} bytes", element_bytes);
  }
}

}  // namespace cmir::cuda
