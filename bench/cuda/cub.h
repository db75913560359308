// CUB's reductions, the peers of ours on a GPU.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace cmir::bench {

/// y[r] = sum_j x[r, j] on the device, x [rows, width], both f32 there. rows = 1 is one sum over
/// all. What CUB needs to work in is made with the first call. Error in a build without CUDA.
class CubRowSums {
 public:
  CubRowSums(const float* x, float* y, std::int64_t rows, std::int64_t width);
  void operator()();

 private:
  const float* x_;
  float* y_;
  std::int64_t rows_, width_;
  Tensor scratch_;
};

}  // namespace cmir::bench
