#include "kernels/information/leave_one_out.h"

#include "kernels/information/pair_sums.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

const RegisterDevice registered{&sum_pairs<LeaveOneOutForward<float>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
