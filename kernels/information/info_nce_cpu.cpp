#include "kernels/information/info_nce.h"

#include "kernels/cpu/isa_begin.h"
// After it:
#include "kernels/information/finish_sums.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

const RegisterCpu registered{kIsa, &sum_and_finish<InfoNceForward<float>>,
                             &sum_and_finish<InfoNceForward<double>>,
                             &sum_and_finish<InfoNceForward<BFloat16>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
