#include "kernels/information/info_nce.h"

#include "kernels/information/pair_sums.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

const RegisterDevice registered{&sum_pairs<InfoNceForward<float>>,
                                &sum_pairs<InfoNceForward<BFloat16>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
