// The scores of all pairs under a Gaussian q(y|x) = N(mu(x), diag exp(logvar(x))) as the product of
// two matrices, so that no [N, N, width] array and no loop over pairs and features is needed.
//
// With w = exp(-logvar) and, for any row m, p = y - m and q = mu - m, and leaving out the width / 2
// ln 2 pi that all scores share,
//   ln q(y_i|x_j) = -1/2 sum_k (w_jk (y_ik - mu_jk)^2 + logvar_jk) = a_i . b_j + r_i,
//   a_i = [p_i^2, p_i, 1], b_j = [-(w_j - u) / 2, w_j q_j, -1/2 sum_k (w_jk q_jk^2 + logvar_jk)],
//   r_i = -1/2 sum_k u_k p_ik^2, for any row u.
// What compares the scores of a row with each other needs no r. m and u then change nothing but the
// rounding, some eps of |w - u| p^2 + w q^2, summed. m is the mean of some rows of y, so that a
// common offset costs nothing; u is 1 over their mean variance, which takes most of p^2 away where
// variances are alike. At most 256 rows, spread over all, tell both: the mean of all would be no
// better a centre than one that is a sixteenth of a deviation from it, and would take a second read
// of y and logvar, since the factors of the first row cannot be written before the last is read.
// Clusters of y far apart for their width still cost: what distinguishes the pairs of one is lost
// in the squares of the clusters' distances.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/host_device.h"
#include "kernels/kernel.h"

namespace cmir::kernels {

/// Elements of a row of the factors: 2 width + 1, and zeros up to a multiple of 4, so that rows are
/// aligned for vectors.
constexpr std::int64_t gaussian_score_depth(std::int64_t width) {
  return (2 * width + 1 + 3) / 4 * 4;
}

/// a and b as above, own[i] = ln q(y_i|x_i) - r_i by the squared difference itself, in f64, and
/// means = [m, 1 / u]. The means are summed in f64, by rows in order (on CUDA in an order of the
/// shape and alignment alone). exp(-logvar) overflows where logvar < -88, and p^2 where |p| >
/// 1.8e19 (f32). Bytes: 3 rows width and 2 rows depth elements, one read of each input, 8 rows, and
/// once more y and logvar of the rows that tell the means. Operations: about 60 rows width.
template <class T>
struct GaussianScoresForward {
  static constexpr std::string_view name = "gaussian_scores_forward";
  const T* mu;      // [rows, width]
  const T* logvar;  // [rows, width]
  const T* y;       // [rows, width]
  std::int64_t rows;
  std::int64_t width;
  double* means;  // [2, width]: of y and of exp(logvar)
  T* a;           // [rows, gaussian_score_depth(width)]
  T* b;           // [rows, gaussian_score_depth(width)]
  double* own;    // [rows]

  /// How many rows tell the means, and which the i-th of them is.
  CMIR_HOST_DEVICE std::int64_t samples() const { return rows < 256 ? rows : 256; }
  CMIR_HOST_DEVICE std::int64_t sample(std::int64_t i) const { return i * rows / samples(); }

  double bytes() const {
    const double of_rows = (3.0 * width + 2.0 * gaussian_score_depth(width)) * rows;
    return (of_rows + 2.0 * samples() * width) * sizeof(T) + 8.0 * rows;
  }
  double operations() const { return 60.0 * rows * width; }
};

/// The gradients of a function f of the scores a_i . b_j, j != i, and own_i, from da and db, f's
/// gradients by a and b. f must grow by `factor` = scale cotangent times what is added to an own_i,
/// and not change when the same is added to all of a row. In f64 per element. Bytes: 6 rows width
/// and 2 rows depth elements. Operations: about 60 rows width.
template <class T>
struct GaussianScoresBackward {
  static constexpr std::string_view name = "gaussian_scores_backward";
  const T* mu;          // [rows, width]
  const T* logvar;      // [rows, width]
  const T* y;           // [rows, width]
  const double* means;  // [2, width]
  const T* da;          // [rows, gaussian_score_depth(width)], or null as dy is
  const T* db;          // [rows, gaussian_score_depth(width)], or null as dmu and dlogvar are
  const T* cotangent;   // [1]
  std::int64_t rows;
  std::int64_t width;
  double scale;
  T* dmu;      // [rows, width] or null
  T* dlogvar;  // [rows, width] or null
  T* dy;       // [rows, width] or null

  double bytes() const {
    return (6.0 * width + 2.0 * gaussian_score_depth(width)) * rows * sizeof(T);
  }
  double operations() const { return 60.0 * rows * width; }
};

}  // namespace cmir::kernels
