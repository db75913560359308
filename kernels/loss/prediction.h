// Prediction losses: per-sample values and their derivatives in one pass.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/kernel.h"

namespace cmir::kernels {

enum class PointwiseLossKind {
  squared,          ///< (p - t)^2
  absolute,         ///< |p - t|, with derivative 0 where p = t
  binary_logistic,  ///< w t ln(1 + e^-p) + (1 - t) ln(1 + e^p), that is -w t ln s(p) - (1 - t) ln
                    ///< s(-p)
};

/// values[i] = mean over j of loss(prediction[i][j], target[i mod target_rows][j]);
/// derivatives[i][j] = d values[i] / d prediction[i][j]. Stable: ln(1 + e^p) is log1p(e^-|p|) +
/// max(p, 0). NaN gives NaN. Bytes: 3 rows width + rows elements. Operations: 4 (squared, absolute)
/// or about 60 (binary_logistic) per element. Deterministic: one row at a time, in order.
template <class T>
struct PointwiseLoss {
  static constexpr std::string_view name = "pointwise_loss";
  PointwiseLossKind kind;
  T positive_weight;    // w, of binary_logistic
  const T* prediction;  // [rows, width]
  const T* target;      // [target_rows, width]
  T* values;            // [rows]
  T* derivatives;       // [rows, width], or null: not wanted
  std::int64_t rows;
  std::int64_t width;
  std::int64_t target_rows = rows;  // of which rows are a multiple

  double bytes() const { return (3.0 * width + 1) * rows * sizeof(T); }
  double operations() const {
    return (kind == PointwiseLossKind::binary_logistic ? 60.0 : 4.0) * rows * width;
  }
};

/// values[i] = logsumexp(logits[i]) - logits[i][y]; derivatives[i] = softmax(logits[i]) -
/// one_hot(y), y = classes[i mod class_rows]. Class indices must have been checked. The largest
/// logit is subtracted before exp, so no finite logit overflows. Bytes: 2 rows width + 2 rows
/// elements. Operations: about 25 per logit. Deterministic: one row at a time, in order.
template <class T>
struct CrossEntropy {
  static constexpr std::string_view name = "cross_entropy";
  const T* logits;              // [rows, width]
  const std::int32_t* classes;  // [class_rows], in [0, width)
  T* values;                    // [rows]
  T* derivatives;               // [rows, width], or null: not wanted
  std::int64_t rows;
  std::int64_t width;
  std::int64_t class_rows = rows;  // of which rows are a multiple

  double bytes() const { return (2.0 * width + 2) * rows * sizeof(T); }
  double operations() const { return 25.0 * rows * width; }
};

/// *mean = sum of values / count, summed in f64 in order. For one value per sample: the sum is not
/// threaded.
template <class T>
struct MeanOfSamples {
  static constexpr std::string_view name = "mean_of_samples";
  const T* values;  // [count], count >= 1
  T* mean;          // [1]
  std::int64_t count;

  double bytes() const { return 1.0 * count * sizeof(T); }
  double operations() const { return 1.0 * count; }
};

/// dx[i][j] = scale cotangent[i] derivatives[i][j], or cotangent[0] for every row when
/// `one_cotangent`.
template <class T>
struct ScaleRows {
  static constexpr std::string_view name = "scale_rows";
  const T* derivatives;  // [rows, width]
  const T* cotangent;    // [rows] or [1]
  bool one_cotangent;
  double scale;
  T* dx;  // [rows, width]
  std::int64_t rows;
  std::int64_t width;

  double bytes() const { return 2.0 * rows * width * sizeof(T); }
  double operations() const { return 1.0 * rows * width; }
};

}  // namespace cmir::kernels
