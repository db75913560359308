#include "kernels/information/info_nce.h"

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// compute(i) for each sample.
template <class Args>
void for_each_sample(const Args& a) {
  parallel_for(0, a.totals.n, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a.compute(i);
  });
}

const RegisterCpu registered{
    kIsa, &for_each_sample<InfoNceForward<float>>, &for_each_sample<InfoNceForward<double>>,
    &for_each_sample<InfoNceBackward<float>>, &for_each_sample<InfoNceBackward<double>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
