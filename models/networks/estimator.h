// The network behind those forms of R_dec that bound the mutual information I(Z_inv; Z_spu) by a
// conditional distribution of Z_spu, which has to be learnt beside the model.
#pragma once

#include <string>

#include "models/config.h"
#include "models/networks/module.h"

namespace cmir {

/// Whether R_dec in that form (loss.decorrelation) needs a ConditionalGaussian.
bool needs_estimator(const std::string& decorrelation);

/// q(Z_spu | Z_inv) = N(mean(Z_inv), diag exp(log_variance(Z_inv))): two networks FC(d, d'), ReLU,
/// FC(d', d). A log variance v is 4 tanh(v / 4), so within 4 of 0, and a bound stays bounded while
/// q is far off (CLUB's authors take tanh(v), in which no variance is above e or below 1 / e).
///
/// Two losses share it, and neither is to move what the other owns: bound() is a function of Z,
/// with q's parameters held fixed; negative_log_likelihood() is a function of q's parameters, with
/// Z held fixed.
struct ConditionalGaussian {
  Linear mean0, mean2, log_variance0, log_variance2;

  ConditionalGaussian(ParameterStore& store, const std::string& prefix, std::int64_t width,
                      std::int64_t hidden);

  /// R_dec of Z_inv and Z_spu [N, d] in the form loss.decorrelation, a scalar in nats: club,
  /// club_sample (losses/information.h) or variational (losses/prior_divergence.h, which moves
  /// Z_inv alone). `negatives`: whom club_sample pairs with whom.
  Variable bound(const std::string& form, const Variable& invariant, const Variable& spurious,
                 const RandomStream& negatives) const;
  /// What q minimises, a scalar in nats.
  Variable negative_log_likelihood(const Variable& invariant, const Variable& spurious) const;
};

}  // namespace cmir
