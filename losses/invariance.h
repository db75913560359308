// The invariance penalty R_inv over virtual environments (CmIR section 3.2, eq. 4, and the variants
// of appendix H).
//
// The rows are laid out as noise_variants() makes them: environments + 1 blocks of N samples, the
// clean block first. All environments (environments + 1) / 2 unordered pairs of blocks count, each
// once, the clean block like any other.
#pragma once

#include "autograd/tape.h"

namespace cmir::losses {

struct InvarianceOptions {
  /// The paper prints a sum over pairs and says nothing of features and batch. Defaults: pairs
  /// summed, as printed; the batch averaged like L_pred, so that the weight does not depend on the
  /// batch size; features averaged, because the weights of Table 7 (0.001 .. 0.1) beside an L_pred
  /// of about 0.5 suit a penalty that does not grow with d (at d = 150, K = 5 and one unit of
  /// difference a sum over features would be 2250 and the mean 15).
  bool mean_over_features = true;
  bool mean_over_batch = true;
  bool mean_over_pairs = false;
};

/// sum over pairs (a, b), samples i, features j of |z[a][i][j] - z[b][i][j]|, averaged as the
/// options say. z [(environments + 1) N, d]; 1 <= environments <= 127, N >= 1. A scalar [].
/// Gradient: (number of smaller) - (number of larger) variants; equal ones count 0. Unimodal
/// predictions in place of z give appendix H's output difference for regression.
Variable invariance(const Variable& z, int environments, const InvarianceOptions& options = {});

struct DivergenceOptions {
  /// true: (KL(p_a || p_b) + KL(p_b || p_a)) / 2 for each pair; false: KL(p_a || p_b) with a < b,
  /// so from the cleaner to the noisier. The paper does not say; the mean of both directions treats
  /// environments alike, as the L1 form does.
  bool symmetric = true;
  bool mean_over_batch = true;
  bool mean_over_pairs = false;
};

/// Appendix H for classification: the sum over pairs of the Kullback-Leibler divergence between
/// softmax outputs, in nats. logits [(environments + 1) N, classes]; one logit (or rank 1) means
/// the two classes (logit, 0). A scalar [].
Variable divergence(const Variable& logits, int environments,
                    const DivergenceOptions& options = {});

}  // namespace cmir::losses
