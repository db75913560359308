// The networks behind those forms of R_dec that estimate the mutual information I(Z_inv; Z_spu),
// which are learnt beside the model.
#pragma once

#include <optional>
#include <string>

#include "losses/donsker_varadhan.h"
#include "models/networks/module.h"

namespace cmir {

/// Whether R_dec in that form (loss.decorrelation) needs an InformationEstimator.
bool needs_estimator(const std::string& form);

/// FC(d, d'), ReLU, FC(d', out).
struct Perceptron {
  Linear layer0, layer2;

  Perceptron() = default;
  Perceptron(ParameterStore& store, const std::string& prefix, std::int64_t width,
             std::int64_t hidden, std::int64_t out);
  Variable operator()(const Variable& x) const { return layer2(layer0.relu(x)); }
};

/// Two losses share the parameters, and neither is to move what the other owns: bound() is a
/// function of x and y, with the parameters held fixed; loss() is a function of the parameters,
/// with x and y held fixed.
///
/// Forms, and what is learnt:
///   club, club_mean, club_sample, l1out, variational   upper bounds (losses/information.h,
///       losses/prior_divergence.h; the last moves x alone). q(y | x) = N(mean(x), diag exp(v(x))):
///       two Perceptrons to d, by its likelihood. v is limited to 4 tanh(v / 4) (CLUB's
///       authors take tanh(v), in which no variance is above e or below 1 / e).
///   infonce, nwj, mine   lower bounds (losses/info_nce.h, nwj.h, donsker_varadhan.h). The critic
///       is 10 s cos(g(x), h(y)): two Perceptrons to kCriticWidth and a scale s > 0, by the bound
///       itself, which they raise while the model lowers it. (Without the cosine an outlier's score
///       has no limit, and nwj and mine, which take its exp, do not recover from one.) mine's
///       moving average is a parameter that nothing trains.
struct InformationEstimator {
  static constexpr std::int64_t kCriticWidth = 32;

  /// `form` needs an estimator. x and y are [N, width].
  InformationEstimator(std::string form, ParameterStore& store, const std::string& prefix,
                       std::int64_t width, std::int64_t hidden);

  /// The estimate, a scalar in nats. `negatives`: whom club_sample pairs with whom.
  Variable bound(const Variable& x, const Variable& y, const RandomStream& negatives) const;
  /// What the parameters minimise, a scalar in nats; x and y as constants: detached.
  Variable loss(const Variable& x, const Variable& y) const;

 private:
  /// `of_x`, `of_y`: the critic's parts.
  Variable lower_bound(const Variable& of_x, const Variable& of_y, const Variable& log_scale,
                       const losses::ExpAverage& average) const;

  std::string form_;
  Perceptron mean_, log_variance_;  // of the upper bounds
  Perceptron of_x_, of_y_;          // of the lower bounds
  Variable log_scale_;
  losses::ExpAverage average_;
};

}  // namespace cmir
