#include "kernels/information/pair_bound.h"

#include <algorithm>
#include <limits>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

template <class T>
void forward(const PairBoundForward<T>& a) {
  const PairTotals<T>& t = a.totals;
  T largest = -std::numeric_limits<T>::infinity();
  for (std::int64_t i = 0; i < t.n; ++i) largest = std::max(largest, t.row_largest[i]);
  double sum = 0, diagonal = 0;
  for (std::int64_t i = 0; i < t.n; ++i) {
    sum += t.row_sum[i] * std::exp(static_cast<double>(t.row_largest[i]) - largest);
    diagonal += t.diagonal[i];
  }
  const double log_denominator = a.finish(largest, sum, diagonal);
  if (a.weights.row_weight == nullptr) return;
  parallel_for(0, t.n, 1024, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) a.weigh(i, log_denominator);
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
