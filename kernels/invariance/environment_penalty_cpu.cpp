#include "kernels/invariance/environment_penalty.h"

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// The means of an environment's samples at even and at odd positions; without halves that of all,
/// twice.
template <class T>
void means_of(const EnvironmentPenalty<T>& a, std::int64_t e, double* means) {
  const std::int64_t begin = a.rows.offsets[e], n = a.rows.offsets[e + 1] - begin;
  double sums[2] = {};
  for (std::int64_t k = 0; k < n; ++k) {
    sums[k & 1] += static_cast<double>(a.values[a.rows.row(begin + k)]);
  }
  const bool halves = a.form.kind == EnvironmentPenaltyKind::halves_product;
  const std::int64_t first = (n + 1) / 2;
  means[0] =
      halves ? sums[0] / static_cast<double>(first) : (sums[0] + sums[1]) / static_cast<double>(n);
  means[1] = halves ? sums[1] / static_cast<double>(n - first) : means[0];
}

template <class T>
void environment_penalty(const EnvironmentPenalty<T>& a) {
  double *means = a.scratch, *factors = a.scratch + 2 * a.rows.environments;
  parallel_for(0, a.rows.environments, 1,
               [&](std::int64_t e, std::int64_t) { means_of(a, e, means + 2 * e); });
  *a.value = static_cast<T>(penalty_of_means(a, means, factors));
  if (!a.derivatives) return;
  parallel_for(0, a.rows.environments, 1, [&](std::int64_t e, std::int64_t) {
    const T pair[2] = {static_cast<T>(factors[2 * e]), static_cast<T>(factors[2 * e + 1])};
    const std::int64_t begin = a.rows.offsets[e], n = a.rows.offsets[e + 1] - begin;
    for (std::int64_t k = 0; k < n; ++k) a.derivatives[a.rows.row(begin + k)] = pair[k & 1];
  });
}

const RegisterCpu registered{kIsa, &environment_penalty<float>, &environment_penalty<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
