#include "kernels/information/leave_one_out.h"

#include "kernels/cpu/isa_begin.h"
// After it:
#include "kernels/information/finish_sums.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

const RegisterCpu registered{kIsa, &sum_and_finish<LeaveOneOutForward<float>>,
                             &sum_and_finish<LeaveOneOutForward<double>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
