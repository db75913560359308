// The lower bound of mutual information of Nguyen, Wainwright and Jordan.
#pragma once

#include "losses/all_pairs.h"

namespace cmir::losses {

/// mean s_ii - exp(-1) mean_{i != j} exp(s_ij), a scalar []: a lower bound of I(A; B) in nats, in
/// expectation, tight where the scores are 1 + ln p(a, b) / (p(a) p(b)). a, b [N, d] of one dtype,
/// N >= 2, d >= 1. No N x N array beyond kPairKept samples (CUDA: kPairBlockRows); four
/// products of 2 N^2 d operations for value and gradients. Nothing shifts the exp, which is the
/// value's own: others' scores beyond 88 in f32, or 709 in f64, make it -inf and its gradients inf
/// or NaN, on which a training step stops; what varies so much wants donsker_varadhan.
Variable nwj(const Variable& a, const Variable& b, const CriticOptions& scores = {});

}  // namespace cmir::losses
