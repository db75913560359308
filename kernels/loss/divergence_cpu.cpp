#include "kernels/loss/divergence.h"

#include <algorithm>
#include <cmath>

#include "core/parallel.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

/// The log-probabilities of one sample's variants and what is computed from them.
template <class T>
struct Sample {
  const PairDivergence<T>& a;
  std::int64_t row;
  double* value = a.scratch + row * a.scratch_per_row();
  double* log_p = value + 1;                             // [variants, classes]
  double* sum_log_p = log_p + a.variants * a.classes();  // [classes]
  double* sum_p = sum_log_p + a.classes();               // [classes]

  double log_probability(std::int64_t v, std::int64_t c) const {
    return log_p[v * a.classes() + c];
  }

  void log_softmax() {
    for (std::int64_t v = 0; v < a.variants; ++v) {
      const T* logits = a.logits + (v * a.rows + row) * a.width;
      double* out = log_p + v * a.classes();
      for (std::int64_t c = 0; c < a.classes(); ++c)
        out[c] = c < a.width ? static_cast<double>(logits[c]) : 0.0;
      const double largest = *std::max_element(out, out + a.classes());
      double sum = 0;
      for (std::int64_t c = 0; c < a.classes(); ++c) sum += std::exp(out[c] - largest);
      const double log_sum_exp = largest + std::log(sum);
      for (std::int64_t c = 0; c < a.classes(); ++c) out[c] -= log_sum_exp;
    }
  }

  /// Adds weight (p (u - p . u) + direct) to variant v's derivative, u and direct functions of
  /// (class, p); returns p . u.
  template <class U, class Direct>
  double variant(std::int64_t v, double weight, U&& u, Direct&& direct) {
    double expected = 0;
    for (std::int64_t c = 0; c < a.classes(); ++c)
      expected += std::exp(log_probability(v, c)) * u(c);
    if (a.derivatives) {
      T* out = a.derivatives + (v * a.rows + row) * a.width;
      for (std::int64_t c = 0; c < a.width; ++c) {
        const double p = std::exp(log_probability(v, c));
        out[c] = static_cast<T>(a.scale * weight * (p * (u(c) - expected) + direct(c, p)));
      }
    }
    return weight * expected;
  }

  void symmetric() {
    const auto n = static_cast<double>(a.variants);
    for (std::int64_t c = 0; c < a.classes(); ++c) {
      sum_log_p[c] = sum_p[c] = 0;
      for (std::int64_t v = 0; v < a.variants; ++v) {
        sum_log_p[c] += log_probability(v, c);
        sum_p[c] += std::exp(log_probability(v, c));
      }
    }
    *value = 0;
    for (std::int64_t v = 0; v < a.variants; ++v) {
      *value += variant(
          v, n / 2, [&](std::int64_t c) { return log_probability(v, c) - sum_log_p[c] / n; },
          [&](std::int64_t c, double p) { return p - sum_p[c] / n; });
    }
  }

  void directed() {
    std::fill_n(sum_log_p, a.classes(), 0.0);  // of the later variants
    for (std::int64_t v = 0; v < a.variants; ++v) {
      for (std::int64_t c = 0; c < a.classes(); ++c) sum_log_p[c] += log_probability(v, c);
    }
    std::fill_n(sum_p, a.classes(), 0.0);  // of the earlier variants
    *value = 0;
    for (std::int64_t v = 0; v < a.variants; ++v) {
      for (std::int64_t c = 0; c < a.classes(); ++c) sum_log_p[c] -= log_probability(v, c);
      const auto later = static_cast<double>(a.variants - 1 - v), earlier = static_cast<double>(v);
      *value += variant(
          v, 1.0, [&](std::int64_t c) { return later * log_probability(v, c) - sum_log_p[c]; },
          [&](std::int64_t c, double p) { return earlier * p - sum_p[c]; });
      for (std::int64_t c = 0; c < a.classes(); ++c) sum_p[c] += std::exp(log_probability(v, c));
    }
  }
};

template <class T>
void pair_divergence(const PairDivergence<T>& a) {
  const std::int64_t grain = std::max<std::int64_t>(1, 512 / (a.variants * a.classes()));
  parallel_for(0, a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      Sample<T> sample{a, row};
      sample.log_softmax();
      a.symmetric ? sample.symmetric() : sample.directed();
    }
  });
  double sum = 0;
  for (std::int64_t row = 0; row < a.rows; ++row) sum += a.scratch[row * a.scratch_per_row()];
  *a.value = static_cast<T>(a.scale * sum);
}

const RegisterCpu registered{kIsa, &pair_divergence<float>, &pair_divergence<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
