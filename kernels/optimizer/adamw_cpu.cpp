#include "kernels/optimizer/adamw.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kAdamWGrain = 16384;

/// Calls body(tensor, begin, end) for the parts of tensors that make up [begin, end) of their
/// concatenation.
template <class Body>
void for_each_part(const std::int64_t* offsets, std::int64_t tensor_count, std::int64_t begin,
                   std::int64_t end, const Body& body) {
  std::int64_t tensor = std::upper_bound(offsets, offsets + tensor_count + 1, begin) - offsets - 1;
  for (; tensor < tensor_count && offsets[tensor] < end; ++tensor) {
    const std::int64_t start = offsets[tensor];
    const std::int64_t stop = std::min(end, offsets[tensor + 1]);
    body(tensor, std::max(begin, start) - start, stop - start);
  }
}

template <class T>
void adamw_step(const AdamWStep<T>& a) {
  if (a.scalars->stopped != 0) return;
  const auto [keep, beta1, rest1, beta2, rest2, step_size, root_correction, epsilon, scale] =
      a.constants();
  parallel_for(
      0, a.offsets[a.tensor_count], kAdamWGrain, [&](std::int64_t begin, std::int64_t end) {
        for_each_part(a.offsets, a.tensor_count, begin, end,
                      [&](std::int64_t tensor, std::int64_t b, std::int64_t e) {
                        T* p = a.tensors[tensor].parameter;
                        const T* gradient = a.tensors[tensor].gradient;
                        T* m = a.tensors[tensor].first_moment;
                        T* v = a.tensors[tensor].second_moment;
#pragma omp simd
                        for (std::int64_t i = b; i < e; ++i) {
                          const T g = scale * gradient[i];
                          const T first = beta1 * m[i] + rest1 * g;
                          const T second = beta2 * v[i] + rest2 * g * g;
                          m[i] = first;
                          v[i] = second;
                          p[i] = keep * p[i] - step_size * first /
                                                   (std::sqrt(second) * root_correction + epsilon);
                        }
                      });
      });
}

template <class T>
double sum_of_squares(const T* x, std::int64_t begin, std::int64_t end) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = begin; i < end; ++i)
    sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

template <class T>
void squared_norm(const SquaredNorm<T>& a) {
  const std::int64_t count = a.offsets[a.tensor_count];
  parallel_for(0, count, kSquaredNormGrain, [&](std::int64_t begin, std::int64_t end) {
    SquaredNormPartial partial{0, -1};
    for_each_part(a.offsets, a.tensor_count, begin, end,
                  [&](std::int64_t tensor, std::int64_t b, std::int64_t e) {
                    const T* x = a.tensors[tensor];
                    const double sum = sum_of_squares(x, b, e);
                    partial.sum += sum;
                    // Finite f64 values may overflow the sum, so an infinite sum is only a reason
                    // to look.
                    if (partial.nonfinite_tensor < 0 && !std::isfinite(sum) &&
                        std::any_of(x + b, x + e, [](T value) { return !std::isfinite(value); })) {
                      partial.nonfinite_tensor = tensor;
                    }
                  });
    a.workspace[begin / kSquaredNormGrain] = partial;
  });
  *a.result = {0, -1};
  for (std::int64_t chunk = 0; chunk < squared_norm_workspace(count); ++chunk) {
    a.result->sum += a.workspace[chunk].sum;
    if (a.result->nonfinite_tensor < 0)
      a.result->nonfinite_tensor = a.workspace[chunk].nonfinite_tensor;
  }
}

template <class T>
void adamw_prepare(const AdamWPrepare<T>& a) {
  a.compute();
}

const RegisterCpu registered{kIsa,
                             &adamw_step<float>,
                             &adamw_step<double>,
                             &squared_norm<float>,
                             &squared_norm<double>,
                             &adamw_prepare<float>,
                             &adamw_prepare<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
