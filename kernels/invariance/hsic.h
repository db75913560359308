// The Hilbert-Schmidt independence criterion of paired rows under Gaussian kernels.
//
// With K_ij = exp(-gamma_x |x_i - x_j|^2), L_ij = exp(-gamma_y |y_i - y_j|^2), row sums k_i and
// l_i, and the sums k and l of those, both estimators are
//   HSIC = f sum_ij K_ij L'_ij = f sum_ij K'_ij L_ij,  L'_ij = L_ij - a (l_i + l_j) + b l
//   biased    f = 1 / n^2, a = 1 / n, b = 1 / n^2: tr(K H L H) / n^2 with the centring H (Gretton,
//             Fukumizu, Teo, Song, Schoelkopf, Smola: "A kernel statistical test of independence",
//             2007, eq. 4; the paper of 2005 divides by (n - 1)^2)
//   unbiased  f = 1 / (n (n - 3)), a = 1 / (n - 2), b = 1 / ((n - 1) (n - 2)), and the pairs i = j
//             left out of all sums; n >= 4 (Song, Smola, Gretton, Bedo, Borgwardt: "Feature
//             selection via dependence maximization", JMLR 2012, eq. 5)
// K and L' are functions of x and y alone, so with the row sums from one walk over tiles of pairs a
// second one gives the value and the gradient,
//   d/dx_i = -4 gamma_x f sum_j K_ij L'_ij (x_i - x_j),
// and likewise for y. N x N is never in memory. Since L' is centred, what K has in common with a
// constant cancels exactly and not by rounding.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/host_device.h"
#include "core/parallel.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// *value = the estimate; dx and dy = its derivatives. Distances and exponentials in T; sums of the
/// kernels and the value in f64, by chunks of rows in order, the gradients in T, by tiles in order.
/// Bytes: 2 rows (x_width + y_width) sizeof(T), since L' is known only after a walk over all, 3
/// with derivatives, and the tiles again from the cache. Operations: rows^2 (6 (x_width + y_width)
/// + 80), 9 widths with derivatives.
template <class T>
struct Hsic {
  static constexpr std::string_view name = "hsic";
  static constexpr std::int64_t kGrain = 16;  // rows of a chunk, and of a device's block
  const T* x;                                 // [rows, x_width]
  const T* y;                                 // [rows, y_width]
  std::int64_t rows, x_width, y_width;
  double gamma_x, gamma_y;
  bool unbiased;    // rows >= 4
  double* scratch;  // [workspace(rows)]
  T* value;         // [1]
  T* dx;            // [rows, x_width], or null: not wanted
  T* dy;            // [rows, y_width], or null: not wanted

  /// Two sums for each row, two over all, and one number for each chunk.
  static std::int64_t workspace(std::int64_t rows) {
    return 2 * rows + 2 + chunk_count(0, rows, kGrain);
  }
  double bytes() const {
    return 1.0 * rows * (x_width * (dx ? 3 : 2) + y_width * (dy ? 3 : 2)) * sizeof(T);
  }
  double operations() const {
    return 1.0 * rows * rows * (6.0 * static_cast<double>(x_width + y_width) + 80) +
           3.0 * rows * rows * static_cast<double>((dx ? x_width : 0) + (dy ? y_width : 0));
  }
};

/// The sums in the scratch memory, and the estimator's factors.
struct HsicSums {
  double* k;        ///< [rows]
  double* l;        ///< [rows]
  double* totals;   ///< [2], of k and of l
  double* partial;  ///< [chunks]
  double f, a, b;

  CMIR_HOST_DEVICE HsicSums(double* scratch, std::int64_t rows, bool unbiased)
      : k(scratch), l(k + rows), totals(l + rows), partial(totals + 2) {
    const auto n = static_cast<double>(rows);
    f = unbiased ? 1 / (n * (n - 3)) : 1 / (n * n);
    a = unbiased ? 1 / (n - 2) : 1 / n;
    b = unbiased ? 1 / ((n - 1) * (n - 2)) : 1 / (n * n);
  }
  CMIR_HOST_DEVICE double centred_k(double kernel, std::int64_t i, std::int64_t j) const {
    return kernel - a * (k[i] + k[j]) + b * totals[0];
  }
  CMIR_HOST_DEVICE double centred_l(double kernel, std::int64_t i, std::int64_t j) const {
    return kernel - a * (l[i] + l[j]) + b * totals[1];
  }
};

}  // namespace cmir::kernels
