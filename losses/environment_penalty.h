// What the ops over environments share: from one value per sample to the penalty and its gradient.
#pragma once

#include "kernels/invariance/environment_penalty.h"
#include "losses/environment_groups.h"

namespace cmir::losses {

struct Penalty {
  Tensor value;        ///< []
  Tensor derivatives;  ///< [samples], of the value by a sample's; undefined where not wanted
};

/// The penalty of kernels/invariance/environment_penalty.h over values [samples].
Penalty environment_penalty(std::string_view op, const kernels::EnvironmentPenaltyForm& form,
                            const Tensor& values, const EnvironmentGroups& groups,
                            bool derivatives);

/// cotangent [] times derivatives [...].
Tensor times_cotangent(const Tensor& derivatives, const Tensor& cotangent);

}  // namespace cmir::losses
