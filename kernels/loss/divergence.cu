#include "kernels/loss/divergence.h"

#include "kernels/cuda/rows.cuh"
#include "kernels/loss/scaled_sum.cuh"

namespace cmir::kernels::CMIR_DEVICE {
namespace {

/// One sample, that of the running warp. All matrices are [variants, classes], and u takes the
/// place of log p. A logit's derivative is weight (p (u - p . u) + direct), the value weight sum p
/// . u.
struct Sample {
  const PairDivergence<float>& a;
  std::int64_t row, classes;
  double *value, *log_p, *p, *direct;

  __device__ Sample(const PairDivergence<float>& args, std::int64_t sample)
      : a(args),
        row(sample),
        classes(args.classes()),
        value(args.scratch + sample * args.scratch_per_row()),
        log_p(value + 1),
        p(log_p + args.variants * classes),
        direct(p + args.variants * classes) {}

  __device__ double logit(std::int64_t v, std::int64_t c) const {
    return c < a.width ? static_cast<double>(a.logits[(v * a.rows + row) * a.width + c]) : 0.0;
  }

  __device__ void log_softmax(std::int64_t v) const {
    double largest = logit(v, 0), sum = 0;
    for (std::int64_t c = 1; c < classes; ++c) largest = max(largest, logit(v, c));
    for (std::int64_t c = 0; c < classes; ++c) sum += exp(logit(v, c) - largest);
    const double log_sum_exp = largest + log(sum);
    for (std::int64_t c = 0; c < classes; ++c) {
      log_p[v * classes + c] = logit(v, c) - log_sum_exp;
      p[v * classes + c] = exp(logit(v, c) - log_sum_exp);
    }
  }

  /// log_p becomes u, and direct is made, for one class.
  __device__ void walk(std::int64_t c) const {
    const auto n = static_cast<double>(a.variants);
    double sum_log_p = 0, sum_p = 0;  // of all variants, or of the later and of the earlier ones
    for (std::int64_t i = c; i < a.variants * classes; i += classes) {
      sum_log_p += log_p[i];
      if (a.symmetric) sum_p += p[i];
    }
    for (std::int64_t v = 0; v < a.variants; ++v) {
      const std::int64_t i = v * classes + c;
      if (a.symmetric) {
        log_p[i] -= sum_log_p / n;
        direct[i] = p[i] - sum_p / n;
      } else {
        sum_log_p -= log_p[i];
        log_p[i] = static_cast<double>(a.variants - 1 - v) * log_p[i] - sum_log_p;
        direct[i] = static_cast<double>(v) * p[i] - sum_p;
        sum_p += p[i];
      }
    }
  }

  /// Writes one variant's derivatives and returns its p . u.
  __device__ double derive(std::int64_t v, double weight) const {
    const double* u = log_p;
    double expected = 0;
    for (std::int64_t i = v * classes; i < (v + 1) * classes; ++i) expected += p[i] * u[i];
    for (std::int64_t c = 0; a.derivatives != nullptr && c < a.width; ++c) {
      const std::int64_t i = v * classes + c;
      a.derivatives[(v * a.rows + row) * a.width + c] =
          static_cast<float>(a.scale * weight * (p[i] * (u[i] - expected) + direct[i]));
    }
    return expected;
  }
};

/// A warp owns a sample: its lanes take variants, then classes, then variants.
struct DivergenceOfSample {
  PairDivergence<float> a;

  template <int kThreads, int N>
  __device__ void operator()(std::int64_t row, std::int64_t lane) const {
    static_assert(kThreads == 32 && N == 1);
    const Sample sample(a, row);
    for (std::int64_t v = lane; v < a.variants; v += 32) sample.log_softmax(v);
    __syncwarp();
    for (std::int64_t c = lane; c < sample.classes; c += 32) sample.walk(c);
    __syncwarp();
    const double weight = a.symmetric ? static_cast<double>(a.variants) / 2 : 1.0;
    double sum = 0;
    for (std::int64_t v = lane; v < a.variants; v += 32) sum += sample.derive(v, weight);
    sum = warp_reduce(sum, Sum{});
    if (lane == 0) *sample.value = weight * sum;
  }
};

void pair_divergence(const PairDivergence<float>& a) {
  if (a.rows > 0) {
    launch(rows_kernel<32, 1, DivergenceOfSample>, rows_configuration(a.rows, 32),
           DivergenceOfSample{a}, a.rows);
  }
  scaled_sum(a.scratch, a.rows, a.scratch_per_row(), a.scale, a.value);
}

const RegisterDevice registered{&pair_divergence};

}  // namespace
}  // namespace cmir::kernels::CMIR_DEVICE
