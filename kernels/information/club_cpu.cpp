#include "kernels/information/club.h"

#include <algorithm>

#include "kernels/cpu/vector_math.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kColumns = 64;  // columns that a chunk walks down together
constexpr int kSums = kClubMoments - 1;

/// totals[s] [width] = the chunks' sums number s, added in order.
void add_chunks(const double* partial, std::int64_t chunks, std::int64_t size, double* totals) {
  std::fill_n(totals, size, 0.0);
  for (std::int64_t chunk = 0; chunk < chunks; ++chunk) {
    const double* part = partial + chunk * size;
#pragma omp simd
    for (std::int64_t k = 0; k < size; ++k) totals[k] += part[k];
  }
}

template <class T>
void mean_of_features(const ClubForward<T>& a, std::int64_t grain, std::int64_t chunks) {
  parallel_for(0, a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    double* sum = a.partial + begin / grain * a.width;
    std::fill_n(sum, a.width, 0.0);
    for (std::int64_t i = begin; i < end; ++i) {
      const T* y = a.y + i * a.width;
#pragma omp simd
      for (std::int64_t k = 0; k < a.width; ++k) sum[k] += static_cast<double>(y[k]);
    }
  });
  double* mean = a.moments + kClubMean * a.width;
  add_chunks(a.partial, chunks, a.width, mean);
  for (std::int64_t k = 0; k < a.width; ++k) mean[k] /= static_cast<double>(a.rows);
}

/// The other moments of columns [first, first + count) over a chunk of rows, to out [kSums, width].
template <class T, bool kWeighted>
void moments_of_tile(const ClubForward<T>& a, std::int64_t begin, std::int64_t end,
                     std::int64_t first, std::int64_t count, double* out) {
  alignas(64) double squares[kColumns] = {}, weights[kColumns] = {}, weighted_mean[kColumns] = {},
                     weighted[kColumns] = {};
  const double* mean = a.moments + kClubMean * a.width + first;
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t at = i * a.width + first;
    const T *mu = a.mu + at, *y = a.y + at, *logvar = kWeighted ? a.logvar + at : nullptr;
#pragma omp simd
    for (std::int64_t k = 0; k < count; ++k) {
      const double w = kWeighted ? static_cast<double>(cpu::exp(-logvar[k])) : 1.0;
      const double p = static_cast<double>(y[k]) - mean[k];
      const double q = static_cast<double>(mu[k]) - mean[k];
      squares[k] += p * p;
      weights[k] += w;
      weighted_mean[k] += w * q;
      weighted[k] += w * (p * (p - 2 * q));
    }
  }
  std::copy_n(squares, count, out + first);
  std::copy_n(weights, count, out + a.width + first);
  std::copy_n(weighted_mean, count, out + 2 * a.width + first);
  std::copy_n(weighted, count, out + 3 * a.width + first);
}

template <class T>
void forward(const ClubForward<T>& a) {
  const std::int64_t grain = ClubForward<T>::grain(a.rows), chunks = chunk_count(0, a.rows, grain);
  mean_of_features(a, grain, chunks);
  const auto tile = a.logvar ? &moments_of_tile<T, true> : &moments_of_tile<T, false>;
  parallel_for(0, a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    double* out = a.partial + begin / grain * kSums * a.width;
    for (std::int64_t first = 0; first < a.width; first += kColumns) {
      tile(a, begin, end, first, std::min(kColumns, a.width - first), out);
    }
  });
  add_chunks(a.partial, chunks, kSums * a.width, a.moments + kClubSquares * a.width);
  const double* moments = a.moments;
  double sum = 0;
  for (std::int64_t k = 0; k < a.width; ++k) {
    sum += moments[kClubWeighted * a.width + k] - moments[kClubSquares * a.width + k] *
                                                      moments[kClubWeights * a.width + k] /
                                                      static_cast<double>(a.rows);
  }
  *a.value = static_cast<T>(-0.5 * a.scale * sum);
}

/// One row; what is null is not written.
template <class T, bool kWeighted>
void backward_row(const ClubBackward<T>& a, std::int64_t row) {
  const std::int64_t at = row * a.width;
  const T *mu = a.mu + at, *y = a.y + at, *logvar = kWeighted ? a.logvar + at : nullptr;
  const double *mean = a.moments, *squares = mean + kClubSquares * a.width,
               *weights = mean + kClubWeights * a.width,
               *weighted_mean = mean + kClubWeightedMean * a.width;
  const double factor = a.scale * static_cast<double>(*a.cotangent);
  const double inverse = 1.0 / static_cast<double>(a.rows);
  const auto each = [&](T* out, auto&& gradient) {
    if (!out) return;
#pragma omp simd
    for (std::int64_t k = 0; k < a.width; ++k) {
      const double w = kWeighted ? static_cast<double>(cpu::exp(-logvar[k])) : 1.0;
      const double p = static_cast<double>(y[k]) - mean[k];
      const double q = static_cast<double>(mu[k]) - mean[k];
      out[at + k] = static_cast<T>(factor * gradient(k, w, p, q));
    }
  };
  each(a.dmu, [](std::int64_t, double w, double p, double) { return w * p; });
  each(a.dlogvar, [&](std::int64_t k, double w, double p, double q) {
    return 0.5 * w * (p * (p - 2 * q) - squares[k] * inverse);
  });
  each(a.dy, [&](std::int64_t k, double w, double p, double q) {
    return w * (q - p) + (p * weights[k] - weighted_mean[k]) * inverse;
  });
}

template <class T>
void backward(const ClubBackward<T>& a) {
  const std::int64_t grain = rows_per_chunk(a.width);
  parallel_for(0, a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      a.logvar ? backward_row<T, true>(a, i) : backward_row<T, false>(a, i);
    }
  });
}

const RegisterCpu registered{kIsa, &forward<float>, &forward<double>, &backward<float>,
                             &backward<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
