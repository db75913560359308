// What a bound makes of the sums over pairs on the CPU. Include it after kernels/cpu/isa_begin.h.
#include "core/parallel.h"
#include "kernels/information/pairs.h"

namespace cmir::kernels::CMIR_ISA {
namespace {

/// The sums, then finish_sample(i) of each sample and, if it is wanted, finish() of the sum of
/// all value_of(i).
template <class Args>
void sum_and_finish(const Args& a) {
  using T = typename ScalarOf<Args>::type;
  const std::int64_t n = a.sums.scores.n;
  cpu_variant<PairSums<T>>()(a.sums);
  parallel_for(0, n, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a.finish_sample(i);
  });
  if (!a.wants_total()) return;
  double total = 0;
  for (std::int64_t i = 0; i < n; ++i) total += a.value_of(i);
  a.finish(total);
}

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
