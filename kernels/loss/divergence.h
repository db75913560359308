// Kullback-Leibler divergence between the softmax outputs of all pairs of variants.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

/// For sample i let l[a] = log softmax(logits[a][i]) and p[a] = exp l[a], a = 0 .. n-1, n =
/// variants. Then
///   directed:  F_i = sum_{a < b} KL(p[a] || p[b]) = sum_a p[a] . ((n - 1 - a) l[a] - sum_{b > a}
///   l[b]) symmetric: F_i = sum_{a < b} (KL(p[a] || p[b]) + KL(p[b] || p[a])) / 2 = n/2 sum_a (p[a]
///   - mean p) . (l[a] - mean l)
/// so that the pairs cost O(n) and not O(n^2). Gradients, with u[a] = dF/dp[a], through the
/// softmax's p (u - p . u):
///   directed:  u[a] = (n - 1 - a) l[a] - sum_{b > a} l[b];  dF/dlogits[a] = p[a] (u[a] - p[a] .
///   u[a]) + a p[a] - sum_{b < a} p[b] symmetric: u[a] = l[a] - mean l;  dF/dlogits[a] = n/2 (p[a]
///   (u[a] - p[a] . u[a]) + p[a] - mean p)
/// *value = scale sum_i F_i. All arithmetic is in f64, since F is a difference of nearly equal
/// numbers when the penalty works. With width 1, the single logit x per variant stands for the two
/// classes' logits (x, 0). Bytes: 2 variants rows width. Operations: about 80 per logit.
/// Deterministic: samples are added in order; on CUDA by one block's
/// threads, then across them.
template <class T>
struct PairDivergence {
  static constexpr std::string_view name = "pair_divergence";
  const T* logits;  // [variants, rows, width]
  std::int64_t variants;
  std::int64_t rows;
  std::int64_t width;
  bool symmetric;
  double scale;
  double* scratch;  // [rows, scratch_per_row()]
  T* value;         // [1]
  T* derivatives;   // d value / d logits, [variants, rows, width], or null: not wanted

  constexpr std::int64_t classes() const { return width == 1 ? 2 : width; }
  /// F_i, and three matrices [variants, classes] for a device. The CPU needs one, and two rows.
  constexpr std::int64_t scratch_per_row() const { return 1 + 3 * variants * classes(); }
  double bytes() const { return 2.0 * variants * rows * width * sizeof(T); }
  double operations() const { return 80.0 * variants * rows * static_cast<double>(classes()); }
};

}  // namespace cmir::kernels
