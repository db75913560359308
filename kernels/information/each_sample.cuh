// Kernels that compute something for each sample from the sums over pairs
// (kernels/information/pairs.h).
#pragma once

#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {

template <class Args>
struct EachSample {
  Args a;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    a.compute(i);
  }
};

/// a.compute(i) for each sample i.
template <class Args>
void for_each_sample(const Args& a) {
  launch_map(EachSample<Args>{a}, 1, a.totals.n, false);
}

}  // namespace cmir::kernels::CMIR_DEVICE
