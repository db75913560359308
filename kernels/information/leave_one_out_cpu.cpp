#include "kernels/information/leave_one_out.h"

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

template <class T>
void forward(const LeaveOneOutForward<T>& a) {
  for_each_sample(a);
  double sum = 0;
  for (std::int64_t i = 0; i < a.totals.n; ++i) sum += a.of_rows[i];
  *a.value = static_cast<T>(a.scale * sum);
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>,
                             &for_each_sample<LeaveOneOutBackward<float>>,
                             &for_each_sample<LeaveOneOutBackward<double>>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
