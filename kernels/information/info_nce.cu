#include "kernels/information/info_nce.h"

#include "kernels/cuda/map.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

template <class Args>
struct EachSample {
  Args a;

  template <int N>
  __device__ void operator()(std::int64_t, std::int64_t i) const {
    a.compute(i);
  }
};

template <class Args>
void for_each_sample(const Args& a) {
  launch_map(EachSample<Args>{a}, 1, a.totals.n, false);
}

const RegisterDevice registered{&for_each_sample<InfoNceForward<float>>,
                                &for_each_sample<InfoNceBackward<float>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
