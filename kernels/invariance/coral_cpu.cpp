#include "kernels/invariance/coral.h"

#include <algorithm>

#include "kernels/matrix/blas.h"

#include "kernels/cpu/isa_begin.h"
namespace cmir::kernels::CMIR_ISA {
namespace {

constexpr std::int64_t kTile = 64;  // columns or rows of a task

/// One environment's columns [begin, end).
template <class T>
void centre_columns(const Coral<T>& a, const CoralMoments<T>& moments, std::int64_t e,
                    std::int64_t begin, std::int64_t end) {
  const std::int64_t first = a.rows.offsets[e], last = a.rows.offsets[e + 1];
  double* mean = moments.means + e * a.width;
  std::fill(mean + begin, mean + end, 0.0);
  for (std::int64_t k = first; k < last; ++k) {
    const T* x = a.x + a.rows.row(k) * a.width;
#pragma omp simd
    for (std::int64_t j = begin; j < end; ++j) mean[j] += static_cast<double>(x[j]);
  }
  for (std::int64_t j = begin; j < end; ++j) {
    mean[j] /= static_cast<double>(std::max<std::int64_t>(1, last - first));
  }
  for (std::int64_t k = first; k < last; ++k) {
    const T* x = a.x + a.rows.row(k) * a.width;
    T* out = moments.centred + k * a.width;
#pragma omp simd
    for (std::int64_t j = begin; j < end; ++j) {
      out[j] = static_cast<T>(static_cast<double>(x[j]) - mean[j]);
    }
  }
}

/// Rows [begin, end) of one environment's covariance.
template <class T>
void covariance_rows(const Coral<T>& a, const CoralMoments<T>& moments, std::int64_t e,
                     std::int64_t begin, std::int64_t end) {
  const std::int64_t n = a.rows.size(e), d = a.width;
  const T* centred = moments.centred + a.rows.offsets[e] * d;
  T* out = moments.covariances + (e * d + begin) * d;
  if (n == 0) {
    std::fill_n(out, (end - begin) * d, T{0});
    return;
  }
  const double scale = 1 / CoralMoments<T>::degrees_of_freedom(n);
  blas_gemm(true, false, end - begin, d, n, static_cast<T>(scale), centred + begin, d, centred, d,
            T{0}, out, d);
}

/// The gradient of a tile of one environment's rows.
template <class T>
void gradient_rows(const Coral<T>& a, const CoralMoments<T>& moments, std::int64_t e,
                   std::int64_t begin, std::int64_t end) {
  const std::int64_t n = a.rows.size(e), d = a.width;
  const double scale = 2 / CoralMoments<T>::degrees_of_freedom(n);
  T* grouped = moments.grouped + begin * d;
  blas_gemm(false, false, end - begin, d, d, static_cast<T>(scale), moments.centred + begin * d, d,
            moments.covariances + e * d * d, d, T{0}, grouped, d);
  const double* of_mean = moments.means + e * d;
  const double share = 1 / static_cast<double>(n);
  for (std::int64_t k = begin; k < end; ++k, grouped += d) {
    T* out = a.derivatives + a.rows.row(k) * d;
#pragma omp simd
    for (std::int64_t j = 0; j < d; ++j) out[j] = grouped[j] + static_cast<T>(share * of_mean[j]);
  }
}

template <class T>
double sum_of_elements(const Coral<T>& a, const CoralMoments<T>& moments) {
  const std::int64_t elements = a.width + a.width * a.width;
  const auto counted = static_cast<double>(a.rows.count_with(1));
  parallel_for(0, elements, Coral<T>::kGrain, [&](std::int64_t begin, std::int64_t end) {
    double sum = 0;
    for (std::int64_t j = begin; j < end; ++j) sum += compare_element(a, moments, counted, j);
    moments.partial[begin / Coral<T>::kGrain] = sum;
  });
  double sum = 0;
  for (std::int64_t chunk = 0; chunk < chunk_count(0, elements, Coral<T>::kGrain); ++chunk) {
    sum += moments.partial[chunk];
  }
  return sum;
}

template <class T>
void coral(const Coral<T>& a) {
  const CoralMoments<T> moments(a);
  const auto over_columns = [&](auto body) {
    const std::int64_t tiles = chunk_count(0, a.width, kTile);
    parallel_for(0, a.rows.environments * tiles, 1, [&](std::int64_t task, std::int64_t) {
      const std::int64_t begin = task % tiles * kTile;
      body(a, moments, task / tiles, begin, std::min(begin + kTile, a.width));
    });
  };
  over_columns(centre_columns<T>);
  over_columns(covariance_rows<T>);
  *a.value = static_cast<T>(sum_of_elements(a, moments));
  if (!a.derivatives) return;
  // A chunk of positions may be of several environments.
  parallel_for(0, a.rows.rows, kTile, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t e = a.rows.environment_of(begin); begin < end; ++e) {
      const std::int64_t stop = std::min(end, a.rows.offsets[e + 1]);
      if (stop > begin) gradient_rows(a, moments, e, begin, stop);
      begin = stop;
    }
  });
}

const RegisterCpu registered{kIsa, &coral<float>, &coral<double>};

}  // namespace
}  // namespace cmir::kernels::CMIR_ISA
#include "kernels/cpu/isa_end.h"
