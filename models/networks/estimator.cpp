#include "models/networks/estimator.h"

#include "autograd/arithmetic.h"
#include "autograd/elementwise.h"
#include "losses/information.h"
#include "losses/prior_divergence.h"

namespace cmir {
namespace {

Linear fixed(const Linear& layer) {
  Linear copy;
  copy.weight = layer.weight.detach();
  copy.bias = layer.bias.detach();
  return copy;
}

Variable limited(const Variable& log_variance) {
  constexpr double kLimit = 4;
  return ops::scale(ops::tanh(ops::scale(log_variance, 1 / kLimit)), kLimit);
}

}  // namespace

bool needs_estimator(const std::string& decorrelation) { return decorrelation != "correlation"; }

ConditionalGaussian::ConditionalGaussian(ParameterStore& store, const std::string& prefix,
                                         std::int64_t width, std::int64_t hidden)
    : mean0(store, prefix + ".mean.0", width, hidden),
      mean2(store, prefix + ".mean.2", hidden, width),
      log_variance0(store, prefix + ".log_variance.0", width, hidden),
      log_variance2(store, prefix + ".log_variance.2", hidden, width) {}

Variable ConditionalGaussian::bound(const std::string& form, const Variable& invariant,
                                    const Variable& spurious, const RandomStream& negatives) const {
  const Variable mean = fixed(mean2)(fixed(mean0).relu(invariant));
  const Variable log_variance = limited(fixed(log_variance2)(fixed(log_variance0).relu(invariant)));
  if (form == "club_sample") return losses::club_sample(mean, log_variance, spurious, negatives);
  if (form == "variational") return losses::prior_divergence(mean, log_variance);
  return losses::club(mean, log_variance, spurious);
}

Variable ConditionalGaussian::negative_log_likelihood(const Variable& invariant,
                                                      const Variable& spurious) const {
  const Variable z = invariant.detach();
  return losses::gaussian_nll(mean2(mean0.relu(z)), limited(log_variance2(log_variance0.relu(z))),
                              spurious.detach());
}

}  // namespace cmir
