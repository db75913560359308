// How far the means and covariances of the environments' rows are apart: CORAL, and its gradient.
//
// With the mean mu_e [d] and the covariance C_e [d, d] (divided by n_e - 1; 0 of a single row) of
// each of the E environments that have rows, the mean over all pairs of environments of
//   v ||mu_a - mu_b||^2 + w ||C_a - C_b||_F^2
// needs no pairs: it is 2 / (E - 1) sum_e (v ||mu_e - mean mu||^2 + w ||C_e - mean C||_F^2). C_e is
// one product X_e^T X_e of centred rows, and with G_e = 4 w / (E - 1) (C_e - mean C) the derivative
// by C_e that by the rows is
//   2 / (n_e - 1) X_e G_e + 4 v / ((E - 1) n_e) (mu_e - mean mu),
// since the columns of X_e G_e add up to 0. (Sun, Saenko: "Deep CORAL: correlation alignment for
// deep domain adaptation", 2016, for two environments; means as well in Gulrajani, Lopez-Paz: "In
// search of lost domain generalization", 2021.)
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "core/parallel.h"
#include "kernels/invariance/environment_rows.h"
#include "kernels/kernel.h"
#include "kernels/loss/partial_sums.h"

namespace cmir::kernels {

/// *value as the head comment says, 0 where E < 2; derivatives[i] = d *value / d x[i]. Means in
/// f64, so that rows may lie far from the origin; products in T, as the BLAS adds (CUDA: over 32
/// rows about their own mean in f32, merged in f64, so that no one row's distance costs anything);
/// squares summed in f64, by chunks in order. Bytes: rows width sizeof(T) for the value, the one
/// read of x (CUDA: one kernel, whose blocks read each element 2 ceil(width / 32) times, all but
/// the first from the cache), and 2 rows width with derivatives, which know G_e only after all of x
/// was read: x once more, and they are written. The CPU's BLAS wants the centred rows in memory,
/// which are written and then read in place of x. Besides, environments width^2 sizeof(T), two or
/// four times. Operations: 2 rows width^2, 4 with derivatives, whatever E is.
template <class T>
struct Coral {
  static constexpr std::string_view name = "coral";
  static constexpr std::int64_t kGrain = 1024;       // elements of a chunk
  static constexpr std::int64_t kDeviceGrain = 256;  // of a device's block
  const T* x;                                        // [rows, width]
  EnvironmentRows rows;
  std::int64_t width;
  double mean_weight;        // v
  double covariance_weight;  // w
  T* products;               // [products_size(device, rows, environments, width)], scratch
  double* scratch;           // [workspace(environments, width)]
  T* value;                  // [1]
  T* derivatives;            // [rows, width], or null: not wanted

  /// The covariances, and on the CPU the centred rows and their products with G_e, by position.
  /// The host model has room for the CPU's kernel, which tests run there.
  static std::int64_t products_size(Device device, std::int64_t rows, std::int64_t environments,
                                    std::int64_t width) {
    const std::int64_t centred = device.type == DeviceType::cuda ? 0 : 2 * rows * width;
    return environments * width * width + centred;
  }
  /// The means, what becomes of them, and a number for each of the CPU's chunks or a device's
  /// blocks.
  static std::int64_t workspace(std::int64_t environments, std::int64_t width) {
    const std::int64_t elements = width + width * width;
    return 2 * environments * width +
           std::max(chunk_count(0, elements, kGrain), device_sum_blocks(elements, kDeviceGrain));
  }
  double bytes() const {
    const double of_rows = (derivatives ? 3.0 : 1.0) * rows.rows;
    return (of_rows + (derivatives ? 4.0 : 2.0) * rows.environments * width) * width * sizeof(T);
  }
  double operations() const { return (derivatives ? 4.0 : 2.0) * rows.rows * width * width; }
};

/// The scratch memory by name.
template <class T>
struct CoralMoments {
  T* covariances;   ///< [environments, width, width], then the derivatives by them
  T* centred;       ///< the CPU's: [rows, width], by position
  T* grouped;       ///< the CPU's: [rows, width], by position
  double* centres;  ///< a device's: [environments, width], the means
  double* means;    ///< [environments, width], then the derivatives by them
  double* partial;

  CMIR_HOST_DEVICE explicit CoralMoments(const Coral<T>& a)
      : covariances(a.products),
        centred(covariances + a.rows.environments * a.width * a.width),
        grouped(centred + a.rows.rows * a.width),
        centres(a.scratch),
        means(centres + a.rows.environments * a.width),
        partial(means + a.rows.environments * a.width) {}

  /// What a sum of squares over n rows is divided by.
  CMIR_HOST_DEVICE static double degrees_of_freedom(std::int64_t n) {
    return n > 1 ? static_cast<double>(n - 1) : 1.0;
  }
};

/// Element j of the moments `m` of all environments, `stride` apart: returns its part of the value
/// under the weight, and leaves the derivatives in its place.
template <class M>
CMIR_HOST_DEVICE double compare_moment(const EnvironmentRows& rows, double counted, double weight,
                                       M* m, std::int64_t stride) {
  double mean = 0, sum = 0;
  for (std::int64_t e = 0; e < rows.environments; ++e) {
    if (rows.size(e) > 0) mean += static_cast<double>(m[e * stride]) / counted;
  }
  const double factor = counted > 1 ? 2 * weight / (counted - 1) : 0.0;
  for (std::int64_t e = 0; e < rows.environments; ++e) {
    const double difference = rows.size(e) > 0 ? static_cast<double>(m[e * stride]) - mean : 0.0;
    sum += factor * difference * difference;
    m[e * stride] = static_cast<M>(2 * factor * difference);
  }
  return sum;
}

/// Element j of the means and, after them, of the covariances.
template <class T>
CMIR_HOST_DEVICE double compare_element(const Coral<T>& a, const CoralMoments<T>& moments,
                                        double counted, std::int64_t j) {
  const std::int64_t d = a.width;
  if (j < d) return compare_moment(a.rows, counted, a.mean_weight, moments.means + j, d);
  return compare_moment(a.rows, counted, a.covariance_weight, moments.covariances + j - d, d * d);
}

}  // namespace cmir::kernels
