#include "kernels/information/info_nce.h"

#include "kernels/information/each_sample.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

const RegisterDevice registered{&for_each_sample<InfoNceForward<float>>,
                                &for_each_sample<InfoNceBackward<float>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
