#include "kernels/information/gaussian_scores.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kColumns = 32;  // whose means a task takes

/// The means of y and of exp(logvar) over some rows, for the columns [begin, end).
template <class T>
void means_of_columns(const GaussianScoresForward<T>& s, std::int64_t begin, std::int64_t end) {
  double *means = s.means, *variances = means + s.width;
  std::fill(means + begin, means + end, 0.0);
  std::fill(variances + begin, variances + end, 0.0);
  const double share = 1 / static_cast<double>(s.samples());
  for (std::int64_t i = 0; i < s.samples(); ++i) {
    const std::int64_t at = s.sample(i) * s.width;
    const T *y = s.y + at, *logvar = s.logvar + at;
#pragma omp simd
    for (std::int64_t k = begin; k < end; ++k) {
      means[k] += share * static_cast<double>(y[k]);
      variances[k] += share * static_cast<double>(cpu::exp(logvar[k]));
    }
  }
}

/// Row `row` of a and b, and own.
template <class T>
void factor_row(const GaussianScoresForward<T>& s, std::int64_t row) {
  const std::int64_t width = s.width, depth = gaussian_score_depth(width);
  const T *mu = s.mu + row * width, *logvar = s.logvar + row * width, *y = s.y + row * width;
  const double *mean = s.means, *variance = mean + width;
  T *a = s.a + row * depth, *b = s.b + row * depth;
  double offset = 0, own = 0;
#pragma omp simd reduction(+ : offset, own)
  for (std::int64_t k = 0; k < width; ++k) {
    const auto w = static_cast<double>(cpu::exp(-logvar[k])), u = 1 / variance[k];
    const double p = static_cast<double>(y[k]) - mean[k], q = static_cast<double>(mu[k]) - mean[k];
    const double apart = static_cast<double>(y[k]) - static_cast<double>(mu[k]);
    a[k] = static_cast<T>(p * p);
    a[width + k] = static_cast<T>(p);
    b[k] = static_cast<T>(-0.5 * (w - u));
    b[width + k] = static_cast<T>(w * q);
    offset += w * q * q + static_cast<double>(logvar[k]);
    own += w * apart * apart - u * p * p + static_cast<double>(logvar[k]);
  }
  std::fill(a + 2 * width, a + depth, T{0});
  std::fill(b + 2 * width, b + depth, T{0});
  a[2 * width] = 1;
  b[2 * width] = static_cast<T>(-0.5 * offset);
  s.own[row] = -0.5 * own;
}

template <class T>
void forward(const GaussianScoresForward<T>& s) {
  parallel_for(0, s.width, kColumns,
               [&](std::int64_t begin, std::int64_t end) { means_of_columns(s, begin, end); });
  parallel_for(0, s.rows, rows_per_chunk(s.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) factor_row(s, i);
  });
}

/// out[k] = gradient(k, w, y - mu), unless out is null.
template <class T, class Gradient>
void each_of_row(const GaussianScoresBackward<T>& s, std::int64_t row, T* out,
                 Gradient&& gradient) {
  if (!out) return;
  const std::int64_t at = row * s.width;
  const T *mu = s.mu + at, *logvar = s.logvar + at, *y = s.y + at;
#pragma omp simd
  for (std::int64_t k = 0; k < s.width; ++k) {
    const auto w = static_cast<double>(cpu::exp(-logvar[k]));
    const auto apart = static_cast<double>(y[k]) - static_cast<double>(mu[k]);
    out[at + k] = static_cast<T>(gradient(k, w, apart));
  }
}

template <class T>
void backward_row(const GaussianScoresBackward<T>& s, double factor, std::int64_t row) {
  const std::int64_t width = s.width, depth = gaussian_score_depth(width);
  const double *mean = s.means, *variance = mean + width;
  if (s.db) {
    const T *mu = s.mu + row * width, *of_square = s.db + row * depth, *of_p = of_square + width;
    const auto of_one = static_cast<double>(of_square[2 * width]);
    const auto q = [&](std::int64_t k) { return static_cast<double>(mu[k]) - mean[k]; };
    each_of_row(s, row, s.dmu, [&](std::int64_t k, double w, double apart) {
      return w * (static_cast<double>(of_p[k]) - q(k) * of_one + factor * apart);
    });
    each_of_row(s, row, s.dlogvar, [&](std::int64_t k, double w, double apart) {
      const double squares = static_cast<double>(of_square[k]) +
                             q(k) * (q(k) * of_one - 2 * static_cast<double>(of_p[k]));
      return 0.5 * (w * (squares + factor * apart * apart) - of_one - factor);
    });
  }
  if (s.da) {
    const T *y = s.y + row * width, *of_weight = s.da + row * depth, *of_mu = of_weight + width;
    each_of_row(s, row, s.dy, [&](std::int64_t k, double w, double apart) {
      const double p = static_cast<double>(y[k]) - mean[k];
      return p * (2 * static_cast<double>(of_weight[k]) + factor / variance[k]) +
             static_cast<double>(of_mu[k]) - factor * w * apart;
    });
  }
}

template <class T>
void backward(const GaussianScoresBackward<T>& s) {
  const double factor = s.scale * static_cast<double>(*s.cotangent);
  parallel_for(0, s.rows, rows_per_chunk(s.width), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) backward_row(s, factor, i);
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
