#include "kernels/loss/prediction.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kGrain = 1024;  // elements

template <class T>
struct Point {
  T value, derivative;
};

template <class T>
Point<T> point(PointwiseLossKind kind, T weight, T p, T t) {
  if (kind == PointwiseLossKind::squared) return {(p - t) * (p - t), 2 * (p - t)};
  if (kind == PointwiseLossKind::absolute) {
    const T difference = p - t;
    const T sign = static_cast<T>(difference > 0) - static_cast<T>(difference < 0);
    return {std::abs(difference), std::isnan(difference) ? difference : sign};
  }
  const T e = std::exp(-std::abs(p));
  const T positive = (p >= 0 ? T{1} : e) / (1 + e);  // s(p) and s(-p), each without cancellation
  const T negative = (p >= 0 ? e : T{1}) / (1 + e);
  const T tail = std::log1p(e);  // ln(1 + e^-|p|)
  const T loss_of_one = tail + (p < 0 ? -p : T{0}), loss_of_zero = tail + (p > 0 ? p : T{0});
  return {weight * t * loss_of_one + (1 - t) * loss_of_zero,
          (1 - t) * positive - weight * t * negative};
}

template <class T>
void pointwise_loss(const PointwiseLoss<T>& a) {
  parallel_for(0, a.rows, rows_per_chunk(a.width, kGrain),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   const T *prediction = a.prediction + i * a.width,
                           *target = a.target + i % a.target_rows * a.width;
                   T sum = 0;
                   for (std::int64_t j = 0; j < a.width; ++j) {
                     const Point<T> at = point(a.kind, a.positive_weight, prediction[j], target[j]);
                     sum += at.value;
                     if (a.derivatives)
                       a.derivatives[i * a.width + j] = at.derivative / static_cast<T>(a.width);
                   }
                   a.values[i] = sum / static_cast<T>(a.width);
                 }
               });
}

template <class T>
void cross_entropy_row(const T* logits, std::int64_t width, std::int32_t chosen, T* value,
                       T* derivative) {
  T largest = logits[0];
  for (std::int64_t c = 1; c < width; ++c) largest = std::max(largest, logits[c]);
  T sum = 0;
  for (std::int64_t c = 0; c < width; ++c) sum += std::exp(logits[c] - largest);
  *value = std::log(sum) + (largest - logits[chosen]);
  if (!derivative) return;
  for (std::int64_t c = 0; c < width; ++c) {
    derivative[c] = std::exp(logits[c] - largest) / sum - (c == chosen ? T{1} : T{0});
  }
}

template <class T>
void cross_entropy(const CrossEntropy<T>& a) {
  parallel_for(
      0, a.rows, rows_per_chunk(a.width, kGrain), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
          cross_entropy_row(a.logits + i * a.width, a.width, a.classes[i % a.class_rows],
                            a.values + i, a.derivatives ? a.derivatives + i * a.width : nullptr);
        }
      });
}

template <class T>
void mean_of_samples(const MeanOfSamples<T>& a) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.count; ++i) sum += a.values[i];
  *a.mean = static_cast<T>(sum / static_cast<double>(a.count));
}

template <class T>
void scale_rows(const ScaleRows<T>& a) {
  parallel_for(0, a.rows, rows_per_chunk(a.width, kGrain),
               [&](std::int64_t begin, std::int64_t end) {
                 for (std::int64_t i = begin; i < end; ++i) {
                   const T factor = static_cast<T>(a.scale) * a.cotangent[a.one_cotangent ? 0 : i];
                   for (std::int64_t j = i * a.width; j < (i + 1) * a.width; ++j) {
                     a.dx[j] = factor * a.derivatives[j];
                   }
                 }
               });
}

const RegisterCpu registered{kIsa,
                             &pointwise_loss<float>,
                             &pointwise_loss<double>,
                             &cross_entropy<float>,
                             &cross_entropy<double>,
                             &mean_of_samples<float>,
                             &mean_of_samples<double>,
                             &scale_rows<float>,
                             &scale_rows<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
