// Linear probes: how much of a target can be read off frozen representations (the paper's Table 11:
// does Z_inv know its environment?).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace cmir {

struct RegressionProbe {
  double mse = 0;                   ///< on the test samples
  double chance_mse = 0;            ///< of predicting the training mean
  std::vector<double> predictions;  ///< one per test sample
};

struct ClassificationProbe {
  double accuracy = 0;                ///< percent of the test samples
  double chance_accuracy = 0;         ///< of always predicting the commonest training class
  std::vector<double> probabilities;  ///< [test samples, classes]
};

/// Ridge regression of `targets` [N] on `features` [N, d] (f32 or f64; computed in f64): minimises
/// mean (y - x w - b)^2 + l2 |w|^2 over the training samples, in closed form by Cholesky. Features
/// are first standardised by the training samples; a column that is constant there counts as zero.
/// `train` and `test` hold indices into N. Errors: sizes that do not fit, an index outside 0..N-1,
/// an empty part, a non-finite feature or target, and l2 = 0 with dependent columns.
RegressionProbe probe_regression(const Tensor& features, std::span<const double> targets,
                                 std::span<const std::int64_t> train,
                                 std::span<const std::int64_t> test, double l2 = 1e-3);

/// Multinomial logistic regression of `labels` [N], classes 0..C-1 with C one more than the
/// largest: minimises the mean cross-entropy
/// + l2/2 |W|^2. Newton's method with the Hessian replaced by its bound X^T X / 2 (Boehning,
/// "Multinomial logistic regression algorithm", 1992), so that one Cholesky factor serves every
/// class and step and each step descends. Otherwise as above.
ClassificationProbe probe_classification(const Tensor& features,
                                         std::span<const std::int64_t> labels,
                                         std::span<const std::int64_t> train,
                                         std::span<const std::int64_t> test, double l2 = 1e-3);

}  // namespace cmir
