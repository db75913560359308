// InfoNCE, the contrastive lower bound of mutual information, with every other sample of the batch
// as a negative and no N x N array (but on the CPU up to kPairKept samples, and on CUDA, in
// backward, up to kPairBlockRows).
#pragma once

#include "losses/all_pairs.h"

namespace cmir::losses {

struct InfoNceOptions {
  CriticOptions scores = {.critic = Critic::cosine, .temperature = 0.07};
  /// The mean of a finding b and of b finding a (CLIP); else a finds b only.
  bool symmetric = true;
};

/// losses [N]: -ln softmax_j(s_ij)[i] of the scores, or the mean of that over rows and columns. a,
/// b [N, d] of one dtype, N, d >= 1. ln N - mean loss is the bound of I(A; B), in nats, and never
/// exceeds ln N; of one sample it is 0, of a NaN NaN. Costs four products of 2 N^2 d operations for
/// value and gradients, in f32 (or f64 on the CPU), or of factors rounded to bf16 where a
/// PrecisionScope says so: unit rows after their normalisation. f32 rounds a score of magnitude L
/// by about L 1e-7, which a temperature of 1e-4 makes 1e-3.
Variable info_nce_losses(const Variable& a, const Variable& b, const InfoNceOptions& options = {});
/// Their mean, [].
Variable info_nce(const Variable& a, const Variable& b, const InfoNceOptions& options = {});

}  // namespace cmir::losses
