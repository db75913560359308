// The variational upper bound of mutual information (Agakov, Barber 2004; as Alemi et al., "Deep
// variational information bottleneck", 2017, use it).
#pragma once

#include "autograd/tape.h"

namespace cmir::losses {

/// mean_i KL(N(mu_i, diag exp(logvar_i)) || N(0, I)), in nats: I(X; Y) is at most that for Y drawn
/// from N(mu(X), diag exp(logvar(X))), whatever the marginal of Y is. mu, logvar [N, d] of one
/// dtype, N, d >= 1. A scalar [].
Variable prior_divergence(const Variable& mu, const Variable& logvar);

}  // namespace cmir::losses
