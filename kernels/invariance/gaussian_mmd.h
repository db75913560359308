// The maximum mean discrepancy between environments under a bank of Gaussian kernels.
//
// With k(x, y) = sum_g exp(-gamma_g |x - y|^2) and M_ab the mean of k over the rows of environment
// a times those of b, MMD^2(a, b) = M_aa + M_bb - 2 M_ab (Gretton, Borgwardt, Rasch, Schoelkopf,
// Smola: "A kernel two-sample test", JMLR 2012, eq. 5, the biased statistic; eq. 3, the unbiased
// one, leaves each row's pair with itself out of M_aa; a bank of kernels as in Li, Pan, Wang, Kot:
// "Domain generalization with adversarial feature learning", 2018). Its mean over all pairs of the
// E environments that count, those of at least one row (unbiased: of two), is one weighted sum over
// all pairs of rows,
//   sum_ij w_ij k(x_i, x_j),  w_ij = 2 / (E n_a (n_a - u)) where both are of environment a,
//                             w_ij = -2 / (E (E - 1) n_a n_b) where they are of a and b,
// with u = 1 and w_ii = 0 if unbiased, else u = 0; and its gradient by x_i is
//   -4 sum_j w_ij (sum_g gamma_g exp(-gamma_g |x_i - x_j|^2)) (x_i - x_j).
// Both come from one walk over tiles of pairs; N x N is never in memory. Distances are sums of
// squared differences and not |x|^2 + |y|^2 - 2 x.y, which loses the small ones that a large gamma
// sees; so rows may lie far from the origin.
#pragma once

#include <cmath>
#include <cstdint>
#include <string_view>

#include "core/host_device.h"
#include "core/parallel.h"
#include "kernels/invariance/environment_rows.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// The Gaussian kernels that are added up.
struct KernelBank {
  static constexpr int kMost = 16;
  double gammas[kMost] = {};
  int count = 0;
};

/// *value = the mean over pairs of environments, 0 where fewer than two count; derivatives[i] =
/// d *value / d x_i. Distances and exponentials in T; the value is summed in f64, by chunks of rows
/// in order, the gradient in T, by tiles in order. Bytes: rows width sizeof(T), twice with
/// derivatives, and the tiles again from the cache. Operations: rows^2 (3 width + 20 gammas), 6
/// width with derivatives.
template <class T>
struct GaussianMmd {
  static constexpr std::string_view name = "gaussian_mmd";
  static constexpr std::int64_t kGrain = 16;  // rows of a chunk, and of a device's block
  const T* x;                                 // [rows, width]
  EnvironmentRows rows;
  std::int64_t width;
  KernelBank bank;
  bool unbiased;
  double* scratch;  // [workspace(rows)]
  T* value;         // [1]
  T* derivatives;   // [rows, width], or null: not wanted

  /// Three numbers for each row and one for each chunk.
  static std::int64_t workspace(std::int64_t rows) {
    return 3 * rows + chunk_count(0, rows, kGrain);
  }
  double bytes() const { return (derivatives ? 2.0 : 1.0) * rows.rows * width * sizeof(T); }
  double operations() const {
    return 1.0 * rows.rows * rows.rows * ((derivatives ? 6.0 : 3.0) * width + 20.0 * bank.count);
  }
};

/// What the weights w_ij are made of, row by row, and the chunks' sums: the scratch memory.
struct MmdWeights {
  double* label;    ///< [rows], the environment
  double* within;   ///< [rows], w_ij where both rows are of that environment
  double* share;    ///< [rows]; -share_i share_j is w_ij where they are of two
  double* partial;  ///< [chunks]

  CMIR_HOST_DEVICE MmdWeights(double* scratch, std::int64_t rows)
      : label(scratch), within(label + rows), share(within + rows), partial(share + rows) {}

  CMIR_HOST_DEVICE double of(std::int64_t i, std::int64_t j) const {
    return label[i] == label[j] ? within[i] : -share[i] * share[j];
  }
  /// Writes those of the row at a position; `counted` is E.
  CMIR_HOST_DEVICE void write(const EnvironmentRows& rows, bool unbiased, std::int64_t counted,
                              std::int64_t position) const {
    const std::int64_t i = rows.row(position), e = rows.environment_of(position);
    const auto n = static_cast<double>(rows.size(e)), all = static_cast<double>(counted);
    const bool counts = counted > 1 && rows.size(e) >= (unbiased ? 2 : 1);
    label[i] = static_cast<double>(e);
    within[i] = counts ? 2 / (all * n * (unbiased ? n - 1 : n)) : 0.0;
    share[i] = counts ? sqrt(2 / (all * (all - 1))) / n : 0.0;
  }
};

}  // namespace cmir::kernels
