#include "kernels/elementwise/round.h"

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

void round_to_bf16(const RoundToBFloat16<float>& a) {
  parallel_for(0, a.count, 16384, [&](std::int64_t begin, std::int64_t end) {
    const float* x = a.x;
    BFloat16* y = a.y;
#pragma omp simd
    for (std::int64_t i = begin; i < end; ++i) y[i] = BFloat16(x[i]);
  });
}

const RegisterCpu registered{kIsa, &round_to_bf16};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
