#include <cuda_runtime.h>

#include <thrust/iterator/counting_iterator.h>
#include <thrust/iterator/transform_iterator.h>
#include <cub/device/device_reduce.cuh>
#include <cub/device/device_segmented_reduce.cuh>

#include "bench/cuda/cub.h"
#include "core/cuda/runtime.h"
#include "core/error.h"

namespace cmir::bench {
namespace {

/// Where row r begins.
struct RowStart {
  std::int64_t width;
  __host__ __device__ std::int64_t operator()(std::int64_t row) const { return row * width; }
};

cudaError_t reduce(void* scratch, std::size_t& bytes, const float* x, float* y, std::int64_t rows,
                   std::int64_t width) {
  cudaStream_t stream = cuda::current_stream().handle();
  if (rows == 1) return cub::DeviceReduce::Sum(scratch, bytes, x, y, width, stream);
  const auto starts = thrust::make_transform_iterator(
      thrust::make_counting_iterator(std::int64_t{0}), RowStart{width});
  return cub::DeviceSegmentedReduce::Sum(scratch, bytes, x, y, rows, starts, starts + 1, stream);
}

}  // namespace

CubRowSums::CubRowSums(const float* x, float* y, std::int64_t rows, std::int64_t width)
    : x_(x), y_(y), rows_(rows), width_(width) {
  std::size_t bytes = 0;
  const cudaError_t status = reduce(nullptr, bytes, x_, y_, rows_, width_);
  if (status != cudaSuccess) fail(ErrorKind::usage, "cub", "{}", cudaGetErrorString(status));
  scratch_ =
      Tensor::empty({static_cast<std::int64_t>(bytes) + 1}, DType::u8, Device{DeviceType::cuda, 0});
}

void CubRowSums::operator()() {
  auto bytes = static_cast<std::size_t>(scratch_.numel());
  const cudaError_t status = reduce(scratch_.mutable_raw(), bytes, x_, y_, rows_, width_);
  if (status != cudaSuccess) fail(ErrorKind::usage, "cub", "{}", cudaGetErrorString(status));
}

}  // namespace cmir::bench
