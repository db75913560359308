// How fast each sample's loss changes when the prediction is scaled: what IRMv1 penalises.
//
// With the prediction f and the loss l, a sample's slope is s = d/dw l(w f) at w = 1, that is f .
// l'(f), and its gradient is ds/df = l'(f) + l''(f) f (Arjovsky, Bottou, Gulrajani, Lopez-Paz:
// "Invariant risk minimization", 2019, section 3.1, with the closed forms worked out here). Both
// come from one read of the prediction, with no second differentiation.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"
#include "kernels/loss/prediction.h"

namespace cmir::kernels {

/// slopes[i] = mean over j of f l'(f), derivatives[i][j] = d slopes[i] / d prediction[i][j], with f
/// = prediction[i][j], t = target[i mod target_rows][j] and w = positive_weight:
///   squared           f l' = 2 f (f - t),     derivative 2 (2 f - t)
///   absolute          f sign(f - t),          derivative sign(f - t), 0 where f = t
///   binary_logistic   f ((1 - t) s(f) - w t s(-f)),
///                     derivative (1 - t) s(f) - w t s(-f) + f s(f) s(-f) (1 - t + w t)
/// No finite f overflows exp. NaN gives NaN. The target may be of fewer rows: that of clean samples
/// serves all blocks of variants. Bytes: 3 rows width + rows elements, 2 rows width + rows without
/// derivatives. Operations: 6 (squared, absolute) or about 40 (binary_logistic) per element.
/// Deterministic: a row's bits do not depend on the others.
template <class T>
struct PointwiseSlope {
  static constexpr std::string_view name = "pointwise_slope";
  PointwiseLossKind kind;
  T positive_weight;         // w, of binary_logistic
  const T* prediction;       // [rows, width]
  const T* target;           // [target_rows, width]
  T* slopes;                 // [rows]
  T* derivatives;            // [rows, width], or null: not wanted
  std::int64_t rows;         // a multiple of target_rows
  std::int64_t target_rows;  // >= 1 where rows > 0
  std::int64_t width;

  double bytes() const { return ((derivatives ? 3.0 : 2.0) * width + 1) * rows * sizeof(T); }
  double operations() const {
    return (kind == PointwiseLossKind::binary_logistic ? 40.0 : 6.0) * rows * width;
  }
};

/// For cross-entropy with y = classes[i mod class_rows], p = softmax(z), z = logits[i]:
/// slopes[i] = sum_c (p_c - [c = y]) z_c, derivatives[i][k] = p_k (1 + z_k - sum_c p_c z_c) - [k =
/// y]. Neither changes when the logits are shifted, so u = z - max z takes their place: then sum_c
/// p_c u_c is at most the number of classes / e, however large the logits are, and nothing large
/// cancels. 1 - p_y is the sum of the other classes. Class indices must have been checked; logits
/// must be finite, and so must their differences. Bytes: 2 rows width + 2 rows elements (rows
/// width without derivatives; a row is read three times, but from the cache).
/// Operations: about 50 per logit. Deterministic: a row's bits do not depend on the others.
template <class T>
struct CrossEntropySlope {
  static constexpr std::string_view name = "cross_entropy_slope";
  const T* logits;              // [rows, width]
  const std::int32_t* classes;  // [class_rows], in [0, width)
  T* slopes;                    // [rows]
  T* derivatives;               // [rows, width], or null: not wanted
  std::int64_t rows;            // a multiple of class_rows
  std::int64_t class_rows;      // >= 1 where rows > 0
  std::int64_t width;

  double bytes() const { return ((derivatives ? 2.0 : 1.0) * width + 2) * rows * sizeof(T); }
  double operations() const { return 50.0 * rows * width; }
};

}  // namespace cmir::kernels
