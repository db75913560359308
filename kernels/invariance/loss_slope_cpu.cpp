#include "kernels/invariance/loss_slope.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 4096;  // elements

template <class T>
struct Point {
  T slope, derivative;
};

template <PointwiseLossKind kKind, class T>
[[gnu::always_inline]] inline Point<T> point(T weight, T f, T t) {
  if constexpr (kKind == PointwiseLossKind::squared) {
    return {2 * f * (f - t), 2 * (f + (f - t))};
  } else if constexpr (kKind == PointwiseLossKind::absolute) {
    const T difference = f - t;
    const T sign = static_cast<T>(difference > 0) - static_cast<T>(difference < 0);
    const T slope = difference != difference ? difference : sign;
    return {f * slope, slope};
  } else {
    const T e = cpu::exp(-std::abs(f));
    const T larger = 1 / (1 + e), smaller = e * larger;
    const T positive = f < 0 ? smaller : larger;  // s(f) and s(-f), each without cancellation
    const T negative = f < 0 ? larger : smaller;
    const T slope = (1 - t) * positive - weight * t * negative;
    return {f * slope, slope + f * (larger * smaller) * (1 - t + weight * t)};
  }
}

template <PointwiseLossKind kKind, bool kDerivatives, class T>
void slopes_of_rows(const PointwiseSlope<T>& a, std::int64_t begin, std::int64_t end) {
  const T mean = 1 / static_cast<T>(a.width);
  for (std::int64_t i = begin; i < end; ++i) {
    const T* f = a.prediction + i * a.width;
    const T* t = a.target + i % a.target_rows * a.width;
    T* out = kDerivatives ? a.derivatives + i * a.width : nullptr;
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (std::int64_t j = 0; j < a.width; ++j) {
      const Point<T> at = point<kKind>(a.positive_weight, f[j], t[j]);
      sum += at.slope;
      if constexpr (kDerivatives) out[j] = at.derivative * mean;
    }
    a.slopes[i] = sum * mean;
  }
}

/// Rows of one element: the loop over rows is the one to vectorise. Rows [begin, end) must not go
/// past a multiple of target_rows.
template <PointwiseLossKind kKind, bool kDerivatives, class T>
void slopes_of_elements(const PointwiseSlope<T>& a, std::int64_t begin, std::int64_t end) {
  const T* target = a.target + begin % a.target_rows;
#pragma omp simd
  for (std::int64_t i = begin; i < end; ++i) {
    const Point<T> at = point<kKind>(a.positive_weight, a.prediction[i], target[i - begin]);
    a.slopes[i] = at.slope;
    if constexpr (kDerivatives) a.derivatives[i] = at.derivative;
  }
}

template <PointwiseLossKind kKind, bool kDerivatives, class T>
void pointwise_chunk(const PointwiseSlope<T>& a, std::int64_t begin, std::int64_t end) {
  if (a.width != 1) return slopes_of_rows<kKind, kDerivatives>(a, begin, end);
  while (begin < end) {
    const std::int64_t stop = std::min(end, (begin / a.target_rows + 1) * a.target_rows);
    slopes_of_elements<kKind, kDerivatives>(a, begin, stop);
    begin = stop;
  }
}

template <PointwiseLossKind kKind, class T>
void pointwise_slope_of(const PointwiseSlope<T>& a) {
  parallel_for(0, a.rows, rows_per_chunk(a.width, kGrain),
               [&](std::int64_t begin, std::int64_t end) {
                 a.derivatives ? pointwise_chunk<kKind, true>(a, begin, end)
                               : pointwise_chunk<kKind, false>(a, begin, end);
               });
}

template <class T>
void pointwise_slope(const PointwiseSlope<T>& a) {
  switch (a.kind) {
    case PointwiseLossKind::squared:
      return pointwise_slope_of<PointwiseLossKind::squared>(a);
    case PointwiseLossKind::absolute:
      return pointwise_slope_of<PointwiseLossKind::absolute>(a);
    case PointwiseLossKind::binary_logistic:
      return pointwise_slope_of<PointwiseLossKind::binary_logistic>(a);
  }
}

/// A row's slope; its derivatives unless those are null.
template <class T>
T cross_entropy_slope_row(const T* logits, std::int64_t width, std::int64_t chosen,
                          T* derivatives) {
  T largest = logits[0];
  for (std::int64_t c = 1; c < width; ++c) largest = std::max(largest, logits[c]);
  T others = 0, moment = 0;  // sums of e^u over the classes not chosen, and of e^u u over all
#pragma omp simd reduction(+ : others, moment)
  for (std::int64_t c = 0; c < width; ++c) {
    const T u = logits[c] - largest, e = cpu::exp(u);
    others += c == chosen ? T{0} : e;
    moment += e * u;
  }
  const T u_chosen = logits[chosen] - largest, e_chosen = cpu::exp(u_chosen);
  const T inverse = 1 / (others + e_chosen), mean = moment * inverse;
  if (derivatives) {
#pragma omp simd
    for (std::int64_t c = 0; c < width; ++c) {
      const T u = logits[c] - largest;
      derivatives[c] = cpu::exp(u) * inverse * (1 + (u - mean));
    }
    derivatives[chosen] = e_chosen * inverse * (u_chosen - mean) - others * inverse;
  }
  return mean - u_chosen;
}

template <class T>
void cross_entropy_slope(const CrossEntropySlope<T>& a) {
  parallel_for(
      0, a.rows, rows_per_chunk(a.width, kGrain), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          a.slopes[i] =
              cross_entropy_slope_row(a.logits + i * a.width, a.width, a.classes[i % a.class_rows],
                                      a.derivatives ? a.derivatives + i * a.width : nullptr);
        }
      });
}

const RegisterCpu registered{kIsa, &pointwise_slope<float>, &pointwise_slope<double>,
                             &cross_entropy_slope<float>, &cross_entropy_slope<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
