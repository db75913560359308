#include "models/networks/estimator.h"

#include <cmath>
#include <utility>

#include "autograd/arithmetic.h"
#include "autograd/elementwise.h"
#include "losses/info_nce.h"
#include "losses/information.h"
#include "losses/nwj.h"
#include "losses/prior_divergence.h"

namespace cmir {
namespace {

Perceptron fixed(Perceptron network) {
  for (Linear* layer : {&network.layer0, &network.layer2}) {
    layer->weight = layer->weight.detach();
    layer->bias = layer->bias.detach();
  }
  return network;
}

Variable limited(const Variable& log_variance) {
  constexpr double kLimit = 4;
  return ops::scale(ops::tanh(ops::scale(log_variance, 1 / kLimit)), kLimit);
}

/// One sample has no negatives; what is left then, vCLUB and InfoNCE, is 0 of it.
bool several(const Variable& x) { return x.shape()[0] > 1; }

bool is_lower_bound(const std::string& form) {
  return form == "infonce" || form == "nwj" || form == "mine";
}

}  // namespace

bool needs_estimator(const std::string& form) { return form != "correlation" && form != "hsic"; }

Perceptron::Perceptron(ParameterStore& store, const std::string& prefix, std::int64_t width,
                       std::int64_t hidden, std::int64_t out)
    : layer0(store, prefix + ".0", width, hidden), layer2(store, prefix + ".2", hidden, out) {}

InformationEstimator::InformationEstimator(std::string form, ParameterStore& store,
                                           const std::string& prefix, std::int64_t width,
                                           std::int64_t hidden)
    : form_(std::move(form)) {
  if (is_lower_bound(form_)) {
    of_x_ = Perceptron(store, prefix + ".x", width, hidden, kCriticWidth);
    of_y_ = Perceptron(store, prefix + ".y", width, hidden, kCriticWidth);
    log_scale_ = store.constant(prefix + ".log_scale", {1}, 0);
    if (form_ == "mine") {
      average_ = losses::ExpAverage::fresh(average_.rate);
      average_.logarithm = store.state(prefix + ".log_average", average_.logarithm);
    }
  } else {
    mean_ = Perceptron(store, prefix + ".mean", width, hidden, width);
    log_variance_ = Perceptron(store, prefix + ".log_variance", width, hidden, width);
  }
}

Variable InformationEstimator::bound(const Variable& x, const Variable& y,
                                     const RandomStream& negatives) const {
  if (is_lower_bound(form_))
    return lower_bound(fixed(of_x_)(x), fixed(of_y_)(y), log_scale_.detach(), {});
  const Variable mean = fixed(mean_)(x), log_variance = limited(fixed(log_variance_)(x));
  if (form_ == "club_sample") return losses::club_sample(mean, log_variance, y, negatives);
  if (form_ == "club_mean") return losses::club_mean(mean, y);
  if (form_ == "l1out" && several(x)) return losses::l1out(mean, log_variance, y);
  if (form_ == "variational") return losses::prior_divergence(mean, log_variance);
  return losses::club(mean, log_variance, y);
}

Variable InformationEstimator::loss(const Variable& x, const Variable& y) const {
  if (is_lower_bound(form_))
    return ops::scale(lower_bound(of_x_(x), of_y_(y), log_scale_, average_), -1);
  return losses::gaussian_nll(mean_(x), limited(log_variance_(x)), y);
}

Variable InformationEstimator::lower_bound(const Variable& of_x, const Variable& of_y,
                                           const Variable& log_scale,
                                           const losses::ExpAverage& average) const {
  const losses::CriticOptions scores{
      .critic = losses::Critic::cosine, .temperature = 0.1, .log_scale = log_scale};
  if (form_ == "nwj" && several(of_x)) return losses::nwj(of_x, of_y, scores);
  if (form_ == "mine" && several(of_x))
    return losses::donsker_varadhan(of_x, of_y, scores, average);
  const Variable loss = losses::info_nce(of_x, of_y, {.scores = scores, .symmetric = false});
  const double most = std::log(static_cast<double>(of_x.shape()[0]));
  return ops::weighted_sum({Variable(Tensor::full({}, most, loss.dtype(), loss.device())), loss},
                           {1, -1});
}

}  // namespace cmir
