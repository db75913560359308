#include "kernels/dropout/dropout.h"

#include "core/parallel.h"
#include "kernels/cpu/dropout_mask.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 64 * cpu::kMaskTile;  // elements

template <class T>
void dropout(const Dropout<T>& d) {
  parallel_for(0, d.count, kGrain, [&](std::int64_t begin, std::int64_t end) {
    cpu::drop_out(d.mask(), d.x, d.y, begin, end);
  });
}

const RegisterCpu registered{kIsa, &dropout<float>, &dropout<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
