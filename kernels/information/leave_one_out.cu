#include "kernels/information/leave_one_out.h"

#include "kernels/information/each_sample.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

void forward(const LeaveOneOutForward<float>& a) {
  for_each_sample(a);
  scaled_sum(a.of_rows, a.totals.n, 1, a.scale, a.value);
}

const RegisterDevice registered{&forward, &for_each_sample<LeaveOneOutBackward<float>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
